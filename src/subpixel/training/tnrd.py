"""TNRD as the training loop takes it: see `subpixel.engines.tnrd`."""

from torch import Tensor

from subpixel.engines.tnrd import TNRD, TnrdModel
from subpixel.models.model import ModelMetadata
from subpixel.training.network import Trainable


class TrainableTNRD(TNRD, Trainable):
    """The network with what the training loop asks for."""

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """All in one: there is no last layer."""
        return [{"params": list(self.parameters()), "rate": 1.0}]

    def merged(self) -> dict[str, Tensor]:
        """All parameters by name."""
        return dict(self.named_parameters())

    def without_expansion(self) -> "TrainableTNRD":
        """A copy: it has none."""
        result = TrainableTNRD(self.scale, self.stages).to(self.reaction.device)
        result.load_state_dict(self.state_dict())
        return result

    def to_model(self, name: str, metadata: ModelMetadata) -> TnrdModel:
        """A copy of it as it stands."""
        return TnrdModel(name, self.without_expansion().cpu(), metadata)
