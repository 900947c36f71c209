"""What was measured, as a table for people and as JSON for scripts. Pure functions over the list of measurements.

A measurement is a dict: scenario, row, contender, run, value, unit, and memory (KiB by process) where it was taken.
"""

from statistics import median

OURS = "nightsafe"


def rows(measurements: list[dict]) -> list[dict]:
    """One for each row: the median of each contender, and of each run's ratios of ours to the others'."""
    found: dict[tuple[str, str], dict] = {}
    for one in measurements:
        row = found.setdefault(
            (one["scenario"], one["row"]),
            {"scenario": one["scenario"], "row": one["row"], "unit": one["unit"], "median": {}, "ratio": {}, "memory": {}, "runs": {}},
        )
        row["runs"].setdefault(one["contender"], {})[one["run"]] = one["value"]
        memory = row["memory"].setdefault(one["contender"], {})
        for process, peak in one.get("memory", {}).items():
            memory[process] = max(memory.get(process, 0), peak)
    for row in found.values():
        row["median"] = {name: median(values.values()) for name, values in row["runs"].items()}
        ours = row["runs"].get(OURS, {})
        for name, values in row["runs"].items():
            ratios = [ours[run] / value for run, value in values.items() if run in ours and value]
            if name != OURS and ratios:
                row["ratio"][name] = median(ratios)
    return list(found.values())


def shown(value: float, unit: str) -> str:
    """A value for people."""
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"
    if unit == "s":
        return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"
    return f"{value:.1f} {unit}"


def table(measured: list[dict]) -> str:
    """All rows: contender and median, ours divided by it, and the process that held the most memory."""
    lines = []
    for row in measured:
        lines.append(f"\n{row['row']}")
        for name in sorted(row["median"], key=lambda name: (name != OURS, name)):
            memory = row["memory"].get(name) or {}
            top = max(memory, key=memory.get, default="")
            ratio = f"{row['ratio'][name]:.2f}" if name in row["ratio"] else ""
            peak = f"{memory[top] / 1024:.0f} MiB  ({top})" if top else ""
            lines.append(f"  {name:<12} {shown(row['median'][name], row['unit']):>12}  {ratio:>6}  {peak}".rstrip())
    return "\n".join(lines)


HEADING = "contender, median, nightsafe divided by it (median of the runs' ratios), most memory that one process held"
