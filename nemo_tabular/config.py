"""The settings of a run: a YAML file and dotted overrides enter, one frozen, checked `Config` leaves.

OmegaConf reads YAML and `a.b=c`; pydantic owns names, types and limits. Names are those that users of
Megatron, NeMo and Lightning already type. The text under a field is its documentation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import ConfigError, nearest


class Section(BaseModel):
    """A group of settings: unknown names are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(Section):
    """What is read, and how much of it at a time."""

    store: str | None = None
    """Folder that `nemo-tabular prepare` wrote."""
    table_weights: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Of a store of several tables: the share of each table's rows in what is trained on, relative to the
    others'. None: in proportion to their rows."""
    global_batch_size: int | None = Field(None, ge=1)
    """Documents (rows, in row mode) a step, over all data-parallel ranks; None: 128, for small tables fewer
    (a 64th of them as a power of two, at least 16); 16 histories."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Documents at a time on one rank; None: all of the rank's share of the global batch at once, in a
    pipeline in as many pieces as it has stages; of histories an eighth, at least 4, those of like lengths
    together."""
    max_rows: int = Field(64, ge=1)
    """Histories only: rows in one window of a document."""
    context_rows: int = Field(16, ge=0)
    """Histories only: rows at the start of a continuing window that are read but not scored again."""


class ModelConfig(Section):
    """The transformer and how it is cut over ranks; Megatron's names."""

    kind: Literal["gpt", "cgm"] = "gpt"
    """The model family: gpt reads columns in one order, cgm (the Composable Generative Model) in any."""
    restore_from_path: str | None = None
    """Folder of a finished run or saved model to start from (fine-tuning): whatever it and the table both
    know is taken over by name, and settings of its architecture that are left out here are as there."""
    num_layers: int = Field(1, ge=1)
    """Transformer blocks."""
    hidden_size: int = Field(64, ge=1)
    """Width of the residual stream."""
    num_attention_heads: int = Field(4, ge=1)
    """Heads; must divide hidden_size."""
    ffn_hidden_size: int | None = Field(None, ge=1)
    """Width of the MLP; None: four times hidden_size."""
    activation: Literal["squared-relu", "gelu"] = "squared-relu"
    """Non-linearity of the MLP."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "LayerNorm"
    """Norm before attention, before the MLP, and at the end."""
    init_method_std: float | None = Field(None, gt=0)
    """Standard deviation of the initial weights; None: 0.64 / sqrt(hidden_size)."""
    order: Literal["entropy", "schema", "random", "mixed", "fixed"] | tuple[str, ...] | None = None
    """Order in which the model sees the columns of a row. The gpt: rising marginal entropy (entropy, the
    default), the table's (schema), or a list of names. The cgm: a new one for every row (random), rising
    entropy for all (fixed), or for a share of them (mixed, the default).
    """
    fixed_share: float | None = Field(None, ge=0, le=1)
    """Of the cgm with order: mixed: the share of the rows that it sees in the fixed order, in which it then
    makes rows of which nothing is given; None: 0.5 up to 15 columns, of more columns less, down to 0.25 at 60
    (more columns have more orders, of which this is one)."""
    query: Literal["additive", "cross_attention"] = "additive"
    """Of the cgm: how the next column is asked for: in one causal pass, or by attention to what was seen."""
    condition_on: tuple[str, ...] = ()
    """Columns that come first, so that `--given` can fix them."""
    tensor_model_parallel_size: int = Field(1, ge=1)
    """Ranks that share each layer's matrices."""
    pipeline_model_parallel_size: int = Field(1, ge=1)
    """Ranks that share the stack of layers."""
    virtual_pipeline_model_parallel_size: int | None = Field(None, ge=2)
    """Pieces of the stack that each pipeline rank holds, so that it waits less (interleaving); None: one."""
    context_parallel_size: int = Field(1, ge=1)
    """Ranks that share each sequence."""
    sequence_parallel: bool = False
    """Split the activations between tensor-parallel ranks along the sequence as well."""
    recompute_granularity: Literal["full"] | None = None
    """full: keep only the inputs of layers for the backward pass and compute the rest again: a third more
    work for a small part of the memory; None: keep all. (Megatron's "selective" would save nothing: attention
    is fused.)"""
    recompute_method: Literal["uniform", "block"] | None = None
    """uniform: keep the input of every recompute_num_layers-th layer; block: compute only the first
    recompute_num_layers of each stage again."""
    recompute_num_layers: int | None = Field(None, ge=1)
    """See recompute_method."""

    @model_validator(mode="after")
    def _orders(self) -> "ModelConfig":
        if self.order is not None and (self.order in ("random", "mixed", "fixed")) != (self.kind == "cgm"):
            known = "random, mixed or fixed" if self.kind == "cgm" else "entropy, schema or a list of columns"
            raise ValueError(f"order {self.order!r} is not for kind {self.kind!r}, whose order is {known}")
        if self.kind == "cgm" and self.context_parallel_size > 1:
            raise ValueError(
                "context_parallel_size is for long histories; the cgm reads single rows: set it to 1"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.tensor_model_parallel_size:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"tensor_model_parallel_size {self.tensor_model_parallel_size}"
            )
        if self.num_layers % self.pipeline_model_parallel_size:
            raise ValueError(
                f"num_layers {self.num_layers} is not a multiple of "
                f"pipeline_model_parallel_size {self.pipeline_model_parallel_size}"
            )
        if self.virtual_pipeline_model_parallel_size is not None:
            pieces = self.pipeline_model_parallel_size * self.virtual_pipeline_model_parallel_size
            if self.pipeline_model_parallel_size == 1:
                raise ValueError(
                    "virtual_pipeline_model_parallel_size needs pipeline_model_parallel_size of at least 2"
                )
            if self.num_layers % pieces:
                raise ValueError(
                    f"num_layers {self.num_layers} is not a multiple of pipeline_model_parallel_size x "
                    f"virtual_pipeline_model_parallel_size = {pieces}"
                )
        if self.feed_forward_size % self.tensor_model_parallel_size:
            raise ValueError(
                f"ffn_hidden_size {self.feed_forward_size} is not a multiple of "
                f"tensor_model_parallel_size {self.tensor_model_parallel_size}"
            )
        if self.sequence_parallel and self.tensor_model_parallel_size == 1:
            raise ValueError("sequence_parallel needs tensor_model_parallel_size of at least 2")
        self._consistent_recompute()
        return self

    def _consistent_recompute(self) -> None:
        settings = self.recompute_granularity, self.recompute_method, self.recompute_num_layers
        if len({value is None for value in settings}) > 1:
            raise ValueError(
                "recompute_granularity, recompute_method and recompute_num_layers go together: set all "
                "three, e.g. full, uniform, 1"
            )
        count = self.recompute_num_layers or 1
        if self.recompute_method == "uniform" and self.layers_of_a_chunk % count:
            raise ValueError(
                f"recompute_num_layers {count} does not divide the {self.layers_of_a_chunk} layers of a "
                "pipeline stage, as recompute_method uniform needs"
            )

    @property
    def layers_of_a_chunk(self) -> int:
        """Layers that a rank holds side by side: a pipeline stage's, or an interleaved one's piece."""
        pieces = self.pipeline_model_parallel_size * (self.virtual_pipeline_model_parallel_size or 1)
        return self.num_layers // pieces

    @property
    def feed_forward_size(self) -> int:
        """Width of the MLP."""
        return self.ffn_hidden_size or 4 * self.hidden_size


class OptimConfig(Section):
    """AdamW, warm-up, then decay."""

    lr: float | None = Field(None, gt=0)
    """Highest learning rate; None: 7e-3 (of the cgm 4.5e-3) for hidden_size 64 and batches of 128 or more,
    inversely proportional to hidden_size and proportional to the root of a smaller batch."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end."""
    lr_warmup_fraction: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    lr_decay_style: Literal["cosine", "linear", "constant"] = "linear"
    """How it falls afterwards: to min_lr in a straight line, as half a cosine, or not at all."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of the matrices; norms and biases are free of it."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    adam_beta2: float = Field(0.98, ge=0, lt=1)
    """Decay of the second moment."""
    adam_eps: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""
    clip_grad: float = Field(1.0, ge=0)
    """Largest norm of the gradient; 0: no clipping."""
    use_distributed_optimizer: bool = False
    """Shard the optimizer's state over the data-parallel ranks."""
    overlap_grad_reduce: bool = False
    """Exchange gradients while the rest of the backward pass runs."""
    overlap_param_gather: bool = False
    """Gather the distributed optimizer's new weights while the next forward pass runs."""

    @model_validator(mode="after")
    def _consistent(self) -> "OptimConfig":
        if self.overlap_param_gather and not (self.use_distributed_optimizer and self.overlap_grad_reduce):
            raise ValueError(
                "overlap_param_gather needs use_distributed_optimizer and overlap_grad_reduce; set all three"
            )
        return self


class TrainerConfig(Section):
    """How long, how precisely, and what is watched on the way."""

    max_steps: int | None = Field(None, ge=1)
    """Steps of the whole schedule; None: follows from max_epochs."""
    max_epochs: float | None = Field(None, gt=0)
    """Passes over the training rows, where max_steps is not given; None: with 33,000 rows 5 for the
    gpt of 640 ids or fewer, and 14 for the cgm of 15 columns; inversely proportional to the root of the
    rows, and proportional to that of the ids, or to the columns (to their root where they are fewer); from 3
    to 8, or from 2 to 45."""
    max_time: str | None = None
    """Stop in good order after this long: "DD:HH:MM:SS" as in Lightning."""
    precision: Literal["32", "bf16-mixed"] = "32"
    """Arithmetic of the blocks; with bf16 the optimizer keeps fp32 weights."""
    val_check_interval: int | None = Field(None, ge=1)
    """Steps between validations; None: a tenth of the schedule."""
    limit_val_rows: int = Field(4096, ge=1)
    """At most so many rows in one validation; of histories those that hold so many, and 64 at least."""
    patience: int = Field(5, ge=1)
    """Stop after so many validations without a new best. With 3 of the 10 that there are, chance ends small
    tables before the rate has come down, which is when most is gained."""
    final_fit: bool | None = None
    """When validation has said how often to pass over the rows, train once more on all of them, its own
    included, as many times; None: where there are fewer than 20,000 training rows, to which it makes a
    difference."""
    save_every_n_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints; None: at every validation."""
    keep_last: int = Field(2, ge=1)
    """Newest checkpoints to keep, besides the best. A new one is whole before an old one goes, so the disk
    needs room for one more.
    """
    async_save: bool = False
    """Write checkpoints from a copy of everything in memory while training goes on."""
    on_save_error: Literal["stop", "continue"] = "stop"
    """When a checkpoint cannot be written (a full disk): stop with an error, or tell and train on."""
    max_bad_steps: int = Field(5, ge=1)
    """Stop after so many steps running whose loss or gradient is not finite; each is skipped and told."""
    hang_timeout: float = Field(600.0, gt=0)
    """Seconds of a rank's silence (or half those of standing still in one step) that end the job."""
    log_every_n_steps: int = Field(50, ge=1)
    """Steps between lines of the log."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of each process; None: torch's choice (or OMP_NUM_THREADS)."""

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return "32" if value == 32 else value  # YAML reads it as a number


class RunConfig(Section):
    """Where the results go, and what randomness they start from."""

    dir: str | None = None
    """Folder of the run: settings, metrics, checkpoints, final model. A run found there is resumed."""
    seed: int = Field(1, ge=0)
    """Seed of initial weights and of the order of the rows."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Further destinations of the metrics; metrics.csv is always written."""


class Config(Section):
    """All settings of a training run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    run: RunConfig = RunConfig()

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that `load_config` reads back."""
        return OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json")))


def _names(section: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Field names of the section that `path` leads to; empty where it leads nowhere."""
    for part in path:
        field = section.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        section = field.annotation
    return list(section.model_fields)


def _complaints(error: ValidationError, where: str) -> str:
    """Each of pydantic's complaints as one line: setting, what is wrong, nearest valid name."""
    lines = []
    for item in error.errors():
        path = tuple(str(part) for part in item["loc"])
        name = ".".join(path)
        if item["type"] == "extra_forbidden":
            hint = nearest(path[-1], _names(Config, path[:-1]))
            lines.append(f"{where}: unknown setting {name!r}{hint}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            # what is wrong between several settings says so itself, and need not show them all
            found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            lines.append(f"{where}: {name}: {message}{found}"[:500])
    return "\n".join(dict.fromkeys(lines))


def make_config(values: dict[str, Any], where: str = "config") -> Config:
    """Check a nested dict of settings. Raises ConfigError that names each bad setting and the nearest valid
    name.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_complaints(error, where)) from None


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML recipe and apply dotted overrides (`trainer.max_steps=500`) in order.

    Raises ConfigError for a missing or unreadable file, an override without `=`, and every bad setting.
    """
    where = "config" if path is None else str(path)
    try:
        loaded = OmegaConf.create({}) if path is None else OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file") from None
    except (OSError, UnicodeDecodeError, ValueError, OmegaConfBaseException, yaml_error()) as error:
        raise ConfigError(f"{where}: not readable as YAML: {error}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{where}: settings expected (`section: {{name: value}}`), found a list")
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r}: write it as section.name=value")
    try:
        merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {error}") from None
    return make_config(values, where)  # type: ignore[arg-type]


def yaml_error() -> type[Exception]:
    """The error class of the YAML parser that OmegaConf uses."""
    from yaml import YAMLError

    return YAMLError
