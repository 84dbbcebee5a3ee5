"""Print the ratios of a benchmark run: python bench/summary.py FILE.json."""

import json
import sys


def main(path):
    with open(path) as file:
        report = json.load(file)
    median = {b["name"]: b["stats"]["median"] for b in report["benchmarks"]}
    extra = {b["name"]: b["extra_info"] for b in report["benchmarks"]}
    limit = max(median["test_copy"], median["test_gram_flops_at_gemm_peak"])
    fit = median["test_koopcore"]
    recorded = median["test_hook[recorded]"] / 10
    rows = [
        ("fit n=1e6 m=64 r=10 float32: PyDMD / koopcore", median["test_pydmd"] / fit, ">= 60"),
        ("  NumPy with a float64-blocked Gram / koopcore",
         median["test_numpy_blocked_gram"] / fit, ""),
        ("  koopcore / limit (copy, or Gram flops at gemm peak)", fit / limit, ""),
        ("  row-major input / column-major input", median["test_koopcore_row_major"] / fit, ""),
        ("  peak memory above the input / input, koopcore",
         extra["test_koopcore"]["peak_memory"], "<= 0.3"),
        ("  the same, PyDMD", extra["test_pydmd"]["peak_memory"], ""),
        ("push n=1e6: push / copy of the state",
         median["test_push"] / median["test_copy_of_the_state"], ""),
        ("combine n=1e6 m=16: combine / read of the window",
         median["test_combine"] / median["test_read_of_the_window"], ""),
        ("recorded step, window 10 / full-batch digits step",
         recorded / median["test_bare_step"], "<= 0.05"),
        ("step without a snapshot, microseconds", median["test_hook[not-recorded]"] * 1e5, ""),
        ("import koopcore beyond an empty Python, seconds",
         median["test_import[koopcore]"] - median["test_import[sys]"], "< 0.3"),
    ]  # fmt: skip
    for name in ("hamiltonian", "digits-64"):
        for method in ("bare", "null"):
            share = extra[f"test_harness[{name}]"][method]
            rows.append((f"koopcore compare, {name}, {method}: its clock / a plain loop", share,
                         "<= 1.01"))  # fmt: skip
    rows += training_rows(median, extra) + stream_rows(median, extra) + grouped_rows(median)
    rows += variant_rows(median, extra) + precision_rows(extra)
    print(f"{report['machine_info']['cpu'].get('brand_raw', 'unknown CPU')}; "
          f"{report['machine_info']['blas']}, {report['machine_info']['blas_threads']} threads; "
          "medians of one run")  # fmt: skip
    width = max(len(name) for name, _, _ in rows)
    for name, value, goal in rows:
        print(f"{name:<{width}}  {value:10.3g}  {goal}")


def training_rows(median, extra):
    """The hook's share of a step, and a jump, in steps of the network they belong to."""
    step, pass_ = median["test_bare_step_1e6"], median["test_forward_backward_1e7"]
    rows = []
    for name, goal in (("every-5", "<= 0.02"), ("average-28", ""), ("average-7-of-28", "")):
        hooks = f"test_hook_1e6[{name}]"
        share = median[hooks] / extra[hooks]["steps"] / step
        rows.append((f"recording at 1e6 parameters, {name}: hook / step", share, goal))
    for name, goal in (("untried", "<= 2"), ("one-trial", "")):
        jump = median[f"test_jump_1e7[{name}]"] / pass_
        rows.append((f"jump at 1e7 parameters, {name} / forward and backward pass", jump, goal))
    return rows


def stream_rows(median, extra):
    """One update of a stream: the better layout, on one thread and on all there are."""
    updates = {
        name: time for name, time in median.items() if name.startswith("test_stream_update[")
    }
    one = min(time for name, time in updates.items() if name.endswith("-1]"))
    best = min(updates.values())
    limit = median["test_stream_copy_of_a_block"] + sum(
        time for name, time in median.items() if name.startswith("test_stream_flops")
    )
    numbers = max(info["numbers"] for info in extra.values() if "numbers" in info)
    return [
        ("stream update n=1e6 k=20 b=16: koopcore / limit (copy + flops at gemm peak)",
         best / limit, "<= 3"),
        ("  the same, koopcore on one thread", one / limit, ""),
        ("  without new directions / limit",
         median["test_stream_update_without_new_directions"] / limit, ""),
        ("  Hemati's in NumPy / koopcore", median["test_stream_hemati_numpy"] / best, ">= 10"),
        ("  IncrementalPCA.partial_fit / koopcore",
         median["test_stream_incremental_pca"] / median["test_stream_svd_update"], ">= 5"),
        ("  peak memory, float32 numbers per feature", numbers, "<= 82"),
        ("  eigenvalues asked anew / update", median["test_stream_query"] / best, ""),
    ]  # fmt: skip


def grouped_rows(median):
    """2,000 operators, rank 10: the better layout, on one thread and on all there are."""
    fits = {name: time for name, time in median.items() if name.startswith("test_grouped[")}
    one = min(time for name, time in fits.items() if name.startswith("test_grouped[1-"))
    best = min(fits.values())
    limit = median["test_grouped_flops_at_gemm_peak"]
    return [
        ("grouped, 2,000 operators: NumPy loop of pinv / koopcore",
         median["test_grouped_numpy_loop_of_pinv"] / best, ">= 50"),
        ("  koopcore / limit (Gram flops at gemm peak)", best / limit, "<= 2"),
        ("  the same, koopcore on one thread", one / limit, ""),
    ]  # fmt: skip


def variant_rows(median, extra):
    """Time of PyDMD's fit over koopcore's (mean of before and after), and peak memory of both."""
    goals = {"exact": 60, "rdmd": 60, "hankel": 60, "forward-backward": 60, "optimized": 20}
    rows = []
    for variant, goal in goals.items():

        def test(who, variant=variant):
            return f"test_variant[{variant}-{who}]"

        fit = (median[test("koopcore-before")] + median[test("koopcore-after")]) / 2
        rows.append((f"{variant}: PyDMD / koopcore", median[test("pydmd")] / fit, f">= {goal}"))
        if test("pydmd-fastest") in median:
            rows.append(
                ("  the same, PyDMD at its fastest", median[test("pydmd-fastest")] / fit, "")
            )
        if test("koopcore-with-modes") in median:
            fit = median[test("koopcore-with-modes")]
            rows.append(("  the same, modes asked for", median[test("pydmd")] / fit, ""))
        for who, limit in (("koopcore-before", "<= 0.3"), ("pydmd", "")):
            memory = extra[test(who)]["peak_memory"]
            rows.append(
                (f"  peak memory above the input / input, {who.split('-')[0]}", memory, limit)
            )
    return rows


def precision_rows(extra):
    """Eigenvalue errors over 20 seeds, in the order of bench_precision.py."""
    goals = {"float32-1e-4-koopcore-gram": "<= 1e-6", "float64-1e-10-koopcore-qr": "<= 1e-8"}
    rows = []
    for name, info in extra.items():
        if name.startswith("test_error["):
            case = name[len("test_error[") : -1]
            for which, error in info["errors"].items():
                rows.append((f"eigenvalue error, {case}, {which}", error, goals.get(case, "")))
    return rows


if __name__ == "__main__":
    main(sys.argv[1])
