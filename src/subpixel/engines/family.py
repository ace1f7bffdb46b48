"""The networks that an upscaler may use: one model, or one name at several scales."""

from collections.abc import Sequence

from subpixel.engines.machine_code import compiling
from subpixel.engines.select import CompiledModel, choose
from subpixel.engines.upsampling import Upsampling, factors_for
from subpixel.models.model import Model
from subpixel.options import Wrap


class ModelFamily:
    """Models of different scales, each compiled at its first use.

    Attributes:
        models: at most one for each scale, the smallest scale first.
        sharpness: how much results are sharpened, 0 to 1.
    """

    def __init__(
        self,
        models: Sequence[Model],
        engine: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        compiled: Sequence[CompiledModel] = (),
        *,
        sharpness: float = 0.0,
    ) -> None:
        """Prepare.

        Args:
            models: with one channel each.
            engine, precision, threads: see `subpixel.engines.select.choose`.
            compiled: models that are compiled already.
            sharpness: of the results, 0 to 1.
        """
        self.sharpness = sharpness
        self.models = tuple(sorted(models, key=lambda model: model.scale))
        self._by_scale = {model.scale: model for model in self.models}
        if len(self._by_scale) < len(self.models):
            raise ValueError("two of the models have the same scale; pass one for each scale")
        self._options = engine, precision, threads
        self._compiled = {each.scale: each for each in compiled}

    def compiled(self, scale: int) -> CompiledModel:
        """Return the model of a scale with its engines. Raises EngineError, see `choose`."""
        if scale not in self._compiled:
            with compiling:  # threads that need the same model wait for the first of them
                if scale not in self._compiled:
                    self._compiled[scale] = choose(self._by_scale[scale], *self._options)
        return self._compiled[scale]

    def select(self, source: tuple[int, int], target: tuple[int, int]) -> list[CompiledModel]:
        """Return the models that a plane passes to get from one size to another, in order; see `factors_for`.

        Args:
            source: height and width, in pixels.
            target: height and width of the result.

        Raises:
            ValueError: the models cannot reach the target.
            EngineError: a model cannot be compiled.
        """
        for scale in self._by_scale:
            if target == (source[0] * scale, source[1] * scale):
                return [self.compiled(scale)]
        ratio = max(to / side for side, to in zip(source, target, strict=True))
        return [self.compiled(scale) for scale in factors_for(ratio, list(self._by_scale))]

    def upsampling(
        self, source: tuple[int, int], target: tuple[int, int], wrap: Wrap | None = None
    ) -> Upsampling:
        """Return what makes planes of one size into planes of another size. Raises as `select`."""
        engines = [compiled.engine for compiled in self.select(source, target)]
        return Upsampling(engines, source, target, wrap, sharpness=self.sharpness)
