"""The extensions on a small network: limits, referees, gradients, and settings that reach their extension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from experiments import firm_extensions
from experiments.context import RunContext

FLOW = Path(__file__).parents[2] / "conf" / "flow" / "firm_extensions.yaml"


def settings(**changed: Any) -> dict[str, Any]:
    kept = yaml.safe_load(FLOW.read_text())
    kept.pop("_target_")
    kept["settings"]["entry"]["reserve"] = 0.5  # so short a run closes firms as well
    return {**kept, "firms_": 40, "degree": 4.0, "sectors": 4, "scenarios": 3, "horizon": 32, **changed}


def test_a_small_network(tmp_path: Path) -> None:
    made = firm_extensions.run(context=RunContext(tmp_path, 0, torch.device("cpu")), **settings())
    for name in firm_extensions.ADDS:
        assert made.metrics[f"limit_error_{name}"] <= (1e-12 if name in ("products", "together") else 0)
        assert made.metrics[f"gradient_error_{name}"] < 1e-5
        assert abs(made.metrics[f"lost_output_pct_{name}"] - made.metrics["lost_output_pct_base"]) > 1e-3
        assert name in made.figures
    assert made.metrics["price_error"] < 1e-12
    assert made.metrics["arrival_error_steps"] == 0
    assert made.metrics["firms_reached"] > 5
    assert set(made.learned["together"]) == {"output", "missing", "price", "under_way", "workers", "open"}
    assert made.tables["extensions"]["gradient"].abs().min() > 0


def test_every_setting_reaches_its_extension(tmp_path: Path) -> None:
    kept = settings()
    model = firm_extensions._model(0, 40, 4.0, 4, 3, 20, 5, kept["shock"], kept["stock"], 6.0, 1.2, kept["settings"])
    assert torch.allclose(model.by_steps(), model.run("base").output, rtol=1e-12)
    for name, change in {"prices": "lag", "labour": "firing", "entry": "surplus", "rebuilding": "capital"}.items():
        before, after = model.run(name), model.run(name, **{f"{name}_{change}": 1.07 * kept["settings"][name][change]})
        assert any(not torch.equal(before.seen[key], after.seen[key]) for key in before.seen), change
