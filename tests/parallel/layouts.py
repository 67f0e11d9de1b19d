"""Layouts that fit four ranks, by name: ranks, and the settings that ask for it."""

TP, PP, CP = (f"model.{name}_parallel_size" for name in ("tensor_model", "pipeline_model", "context"))
SP, VPP = "model.sequence_parallel=true", "model.virtual_pipeline_model_parallel_size=2"
SHARDED = "optim.use_distributed_optimizer=true"
OVERLAP = "optim.overlap_grad_reduce=true"
ALL_OVERLAP = [SHARDED, OVERLAP, "optim.overlap_param_gather=true"]

LAYOUTS = {
    "tp2": (2, [f"{TP}=2"]),
    "tp2-sp": (2, [f"{TP}=2", SP]),
    "tp4-sp": (4, [f"{TP}=4", SP]),
    "pp2": (2, [f"{PP}=2", "data.micro_batch_size=2"]),
    "pp2-interleaved": (2, [f"{PP}=2", VPP, "data.micro_batch_size=2"]),
    "pp4": (4, [f"{PP}=4", "data.micro_batch_size=2"]),
    "dp2": (2, []),
    "dp2-overlap": (2, [OVERLAP]),
    "dp2-sharded": (2, [SHARDED]),
    "dp2-sharded-overlap": (2, ALL_OVERLAP),
    "dp4": (4, ["data.micro_batch_size=1"]),
    "dp4-overlap": (4, [OVERLAP, "data.micro_batch_size=1"]),
    "dp4-sharded": (4, [SHARDED]),
    "dp4-sharded-overlap": (4, [*ALL_OVERLAP, "data.micro_batch_size=1"]),
    "cp2": (2, [f"{CP}=2"]),
    "cp4": (4, [f"{CP}=4"]),
    "tp2pp2": (4, [f"{TP}=2", f"{PP}=2"]),
    "tp2pp2-sp-interleaved": (4, [f"{TP}=2", f"{PP}=2", SP, VPP]),
    "tp2dp2": (4, [f"{TP}=2"]),
    "tp2dp2-sp-sharded-overlap": (4, [f"{TP}=2", SP, *ALL_OVERLAP]),
    "pp2dp2": (4, [f"{PP}=2"]),
    "pp2dp2-sharded": (4, [f"{PP}=2", SHARDED]),
    "pp2dp2-interleaved-sharded-overlap": (4, [f"{PP}=2", VPP, *ALL_OVERLAP]),
    "tp2cp2": (4, [f"{TP}=2", f"{CP}=2"]),
    "tp2cp2-sp": (4, [f"{TP}=2", f"{CP}=2", SP]),
    "pp2cp2": (4, [f"{PP}=2", f"{CP}=2"]),
    "cp2dp2-sharded": (4, [f"{CP}=2", SHARDED]),
}
