"""TNRD with the interface of the training loop: see `subpixel.engines.tnrd`."""

from torch import Tensor

from subpixel.engines.tnrd import TNRD, TnrdModel
from subpixel.models.model import ModelMetadata
from subpixel.training.network import Trainable


class TrainableTNRD(TNRD, Trainable):
    """A `TNRD` that can be trained."""

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Return one group with all parameters, because there is no last layer."""
        return [{"params": list(self.parameters()), "rate": 1.0}]

    def fused_parameters(self) -> dict[str, Tensor]:
        """Return all parameters by name."""
        return dict(self.named_parameters())

    def fused(self) -> "TrainableTNRD":
        """Return a copy; there is nothing to fuse."""
        result = TrainableTNRD(self.scale, self.stages).to(self.reaction.device)
        result.load_state_dict(self.state_dict())
        return result

    def to_model(self, name: str, metadata: ModelMetadata) -> TnrdModel:
        """Return a model with a copy of the current weights."""
        return TnrdModel(name, self.fused().cpu(), metadata)
