"""Time and memory of a run, and of its gradient, against the number of firms."""

from __future__ import annotations

import gc
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from dpsc.report import Outcome, Section, figures
from dpsc.simulate import firms
from experiments.context import RunContext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]


def run(*, context: RunContext, sizes: list[int], steps: int, degree: float, chunk: int, budget_s: float, memory: float, devices: list[str]) -> Outcome:
    """Every size and device in a process of its own, so that the peaks of memory are its own.

    Args:
        context: of the run.
        sizes: numbers of firms.
        steps: T of a run.
        degree: mean number of suppliers.
        chunk: steps between which a run without gradient forgets its path, where the path would take more than `memory`.
        budget_s: processor seconds of repetitions for a size; at least one is made.
        memory: bytes of stocks kept on the way to a gradient.
        devices: `cpu`, `cuda`; those that are not there are left out.
    """
    there = [d for d in devices if d == "cpu" or torch.cuda.is_available()]
    jobs = [(device, size) for device in there for size in sizes]
    rows = []
    for device, size in context.track(jobs, "sizes", len(jobs)):
        asked = {"firms": size, "steps": steps, "degree": degree, "chunk": chunk, "budget_s": budget_s, "memory": memory, "device": device}
        command = [sys.executable, "-m", "experiments.scaling", json.dumps(asked | {"threads": torch.get_num_threads()})]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{size} firms on {device}: {(done.stderr.strip().splitlines() or ['no words'])[-1]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    frame = pd.DataFrame(rows)
    metrics: dict[str, float] = {}
    for row in rows:
        label = f"{row['firms']}" if row["device"] == "cpu" else f"{row['device']}_{row['firms']}"
        metrics |= {
            f"forward_s_a_step_{label}": row["forward_s"] / steps,
            f"gradient_s_a_step_{label}": row["gradient_s"] / steps,
            f"gradient_over_forward_{label}": row["gradient_s"] / row["forward_s"],
            f"forward_peak_gb_{label}": row["forward_peak_gb"],
            f"gradient_peak_gb_{label}": row["gradient_peak_gb"],
        }
    most = rows[len(sizes) - 1]
    return Outcome(
        metrics=metrics,
        title="How a run grows with the number of firms",
        summary=(
            f"A step of {most['firms']:,} firms with {most['edges']:,} edges takes {most['forward_s'] / steps:.3g} processor seconds, and "
            f"{most['forward_peak_gb']:.2g} GB; the gradient of {steps} steps takes {most['gradient_s'] / most['forward_s']:.2g} times as long as the run, and "
            f"{most['gradient_peak_gb']:.2g} GB."
        ),
        sections=[
            Section(
                "Time and memory",
                "Firms with ten suppliers each on average, 100 steps after a shock to three firms in ten, single precision, one thread on the CPU. The "
                "gradient is that of a squared error of total output in every firm's stock and rate of recovery: two parameters a firm. Seconds are "
                "processor seconds on the CPU, so that other work on the machine counts less. The peaks are of the whole process, with torch and the "
                "network; a run without gradient forgets its path as it goes, one with a gradient keeps output and demand of all steps and the stocks of some.",
                tables=("scaling",),
                figures=("time", "memory"),
            )
        ],
        tables={"scaling": frame},
        figures={
            "time": _doubly_logarithmic(frame, {"run": "forward_s", "run and gradient": "gradient_s"}, f"seconds for {steps} steps"),
            "memory": _doubly_logarithmic(frame, {"run": "forward_peak_gb", "run and gradient": "gradient_peak_gb"}, "peak of the process, GB"),
        },
    )


def measured(firms: int, steps: int, degree: float, chunk: int, budget_s: float, memory: float, device: str, threads: int) -> dict[str, Any]:
    """One size on one device, in this process."""
    torch.set_num_threads(threads)
    problem = _Problem(firms, steps, degree, device, memory)
    gc.collect()
    length = chunk if 4 * firms * steps > memory else steps  # a short path may be kept
    forward_s = _median(lambda: problem.forward(length), budget_s, device)
    forward_peak = _peak(device)
    _forget_peak(device)
    gradient_s = _median(problem.gradient, budget_s, device)
    return {
        "device": device,
        "firms": firms,
        "edges": problem.network.edges,
        "forward_s": forward_s,
        "gradient_s": gradient_s,
        "forward_ns_edge_step": 1e9 * forward_s / steps / problem.network.edges,
        "forward_peak_gb": forward_peak,
        "gradient_peak_gb": _peak(device),
    }


class _Problem:
    """The reference network and draws, and what is differentiated."""

    def __init__(self, count: int, steps: int, degree: float, device: str, memory: float) -> None:
        self.network = firms.synthetic(count, degree=degree).to(torch.float32).to(device)
        self.steps, self.memory = steps, memory
        n, rate, size = (v.to(device, torch.float32) for v in firms.draw(count))
        self.inventory, self.rate, self.size = n.requires_grad_(), rate.requires_grad_(), size

    def forward(self, chunk: int) -> torch.Tensor:
        """Total output of every step."""
        state, totals = None, []
        with torch.no_grad():
            for begin in range(0, self.steps, chunk):
                length = min(chunk, self.steps - begin)
                z = 1 - firms.exponential(length, onset=5.0 - begin, size=self.size, rate=self.rate)
                made = firms.rollout(self.network, firms.Parameters(self.inventory), productivity=z, state=state, check=False)
                state = made.state
                totals.append(made.output.sum(1))
                del made, z
            return torch.cat(totals)

    def gradient(self) -> tuple[torch.Tensor, ...]:
        """Of the squared error of total output."""
        z = 1 - firms.exponential(self.steps, onset=5.0, size=self.size, rate=self.rate)
        made = firms.rollout(self.network, firms.Parameters(self.inventory), productivity=z, memory=self.memory, check=False)
        del z
        loss = (made.output.sum(1) / self.network.output.sum() - 0.95).square().mean()
        del made
        return torch.autograd.grad(loss, (self.inventory, self.rate))


def _median(call: Callable[[], Any], budget_s: float, device: str) -> float:
    """Of the repetitions after the first, which builds what is built once; the first where the budget has no room for more."""
    clock = time.process_time if device == "cpu" else time.perf_counter

    def once() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        start = clock()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - start

    firms.rollout(firms.synthetic(10, degree=2), firms.Parameters(2.0), horizon=2)  # compiles the kernels where they are not yet
    first, found = once(), []
    while sum(found) + first < budget_s and len(found) < 25:
        found.append(once())
    return statistics.median(found or [first])


def _peak(device: str) -> float:
    """GB: the largest resident size of this process, or what the device's allocator held at most."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e9
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def _forget_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    except OSError:
        return


def _doubly_logarithmic(frame: pd.DataFrame, columns: dict[str, str], label: str) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, (axes,) = figures.axes_grid(1, width=7.2, height=4.2)
    for k, (device, rows) in enumerate(frame.groupby("device", sort=False)):
        for position, (name, column) in enumerate(columns.items()):
            x, y = rows["firms"].to_numpy(), rows[column].to_numpy()
            shown = f"{name}, {device}" if frame["device"].nunique() > 1 else name
            axes.plot(x, y, marker="o", color=figures.COLOURS[2 * k + position], linestyle=figures.DASHES[position], linewidth=1.8, label=shown)
            for a, b in zip(x, y, strict=True):
                offset = {"xytext": (-3, 6), "ha": "right"} if position else {"xytext": (3, -12), "ha": "left"}
                axes.annotate(f"{b:.3g}", (a, b), textcoords="offset points", fontsize=8, color=figures.INK, **offset)
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.13)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.6, high * 1.6)
    axes.set_xlabel("firms", fontsize=10, color=figures.INK)
    axes.set_ylabel(label, fontsize=10, color=figures.INK)
    if high / low < 100:  # powers of ten alone would be too few
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.legend(frameon=False, fontsize=9, labelcolor=figures.INK, handlelength=3.4)
    return figure


if __name__ == "__main__":
    result = measured(**json.loads(sys.argv[1]))
    assert all(not isinstance(v, float) or math.isfinite(v) for v in result.values())
    print(json.dumps(result))
