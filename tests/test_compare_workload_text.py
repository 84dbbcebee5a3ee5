"""The transformer: it looks at the past only, its text is cut cleanly, its schedule is kept."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from koopcore.compare import baselines, workloads  # noqa: E402
from koopcore.compare.workloads import _text, transformer  # noqa: E402

# Every window of 64 characters is unlike all others, so that one in two parts would be seen.
TEXT = " ".join(f"{i:05d}" for i in range(10_000))


@pytest.fixture
def own_text(tmp_path, monkeypatch):
    """Point the workload at a text of its own; afterwards it forgets it."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    monkeypatch.setenv("KOOPCORE_TEXT", str(path))
    transformer.split.cache_clear()
    yield path
    transformer.split.cache_clear()


def test_parts_are_contiguous_and_labels_are_the_characters_that_follow(own_text):
    parts, n_characters = transformer.split()
    alphabet = sorted(set(TEXT))
    assert n_characters == len(alphabet) == 11

    def texts(codes):
        return ["".join(alphabet[c] for c in row) for row in codes.tolist()]

    pieces = {"train": TEXT[:53_999], "kept": TEXT[53_999:56_999], "test": TEXT[56_999:]}
    for name, piece in pieces.items():
        x, y = getattr(parts, name)
        windows, following = texts(x), texts(y)
        assert len(set(windows)) == len(windows)  # none overlaps
        for window, after in zip(windows, following, strict=True):
            at = piece.index(window)
            assert at % 64 == 0
            assert piece[at + 1 : at + 65] == after
    assert [len(getattr(parts, name)[0]) for name in pieces] == [843, 32, 46]


def test_samples_are_in_an_order_that_is_not_the_texts(own_text):
    x, _ = transformer.split()[0].train
    assert x[0, :6].tolist() != x[1, :6].tolist()
    first = [int("".join(str(c - 1) for c in row[:20].tolist() if c)[:5]) for row in x[:50]]
    assert first != sorted(first)


def test_default_model_has_about_a_million_parameters_and_sees_no_later_character():
    model = transformer.Decoder(n_characters=90)
    assert 0.95e6 < sum(p.numel() for p in model.parameters()) < 1.05e6
    small = transformer.Decoder(11, width=8)
    codes = torch.randint(11, (2, 64), generator=torch.Generator().manual_seed(1))
    changed = codes.clone()
    changed[:, 40] = (changed[:, 40] + 1) % 11
    with torch.no_grad():
        before, after = small(codes), small(changed)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40:], after[:, 40:])
    assert small(codes[:, :7]).shape == (2, 7, 11)


def test_loss_and_accuracy_are_those_of_characters(own_text):
    problem = workloads.load("transformer:0.05").build(0)
    x, y = transformer.split()[0].test
    with torch.no_grad():
        logits = problem.model(x)
    chosen = logits.log_softmax(-1).gather(-1, y[..., None])
    figures = problem.evaluate(problem.model)
    assert figures["heldout_loss"] == pytest.approx(-chosen.mean().item(), rel=1e-5)
    share = (logits.argmax(-1) == y).double().mean().item()
    assert figures["heldout_accuracy"] == pytest.approx(share)
    # Untrained, it knows no more than the number of characters.
    assert figures["heldout_loss"] == pytest.approx(math.log(11), abs=0.7)


@pytest.mark.parametrize("name", ["adamw", "momentum", "muon"])
def test_schedule_warms_up_falls_along_a_cosine_and_stays(own_text, name):
    if name in baselines.REQUIRES:
        pytest.importorskip(baselines.REQUIRES[name][0])
    problem = workloads.load("transformer:0.05").build(0)
    optimizer = baselines.make_optimizer(name, problem.model.parameters(), 0.02)
    problem.schedule(optimizer, 20)
    rates = []
    for _ in range(24):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for p in problem.model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(len(set(groups)) == 1 for groups in rates)
    shares = [groups[0] / 0.02 for groups in rates]
    assert shares[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert shares[11] == pytest.approx(0.55)  # half-way down
    assert all(a > b for a, b in itertools.pairwise(shares[2:21]))
    assert shares[20:] == pytest.approx([0.1] * 4)


def test_schedule_multiplies_what_a_method_makes_of_the_rate():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.01)
    transformer.schedule(optimizer, 20)
    optimizer.param_groups[0]["lr"] *= 3.2
    for _ in range(2):
        parameter.grad = torch.ones(2)
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(3.2 * 0.01)


def test_only_the_transformer_has_a_schedule(own_text):
    assert workloads.load("hamiltonian").build(0).schedule is None
    assert workloads.load("transformer:0.05").build(0).schedule is transformer.schedule


def test_missing_text_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KOOPCORE_TEXT", str(tmp_path / "none.txt"))
    message = workloads.missing_data("transformer")
    assert "none.txt" in message
    assert "KOOPCORE_TEXT" in message
    assert "base-files" in message
    with pytest.raises(FileNotFoundError, match=r"needs a text of at least 50,000 characters"):
        _text.read()
    (tmp_path / "none.txt").write_text("short", "utf-8")
    assert "found 5 bytes" in workloads.missing_data("transformer:2")
    monkeypatch.delenv("KOOPCORE_TEXT")
    monkeypatch.setattr(_text, "LICENCES", tmp_path / "nowhere")
    assert "nowhere" in workloads.missing_data("transformer")


def test_licence_texts_are_read_once_each_without_their_links(tmp_path, monkeypatch):
    monkeypatch.delenv("KOOPCORE_TEXT", raising=False)
    monkeypatch.setattr(_text, "LICENCES", tmp_path)
    (tmp_path / "B-2").write_text("b" * 30_000, "utf-8")
    (tmp_path / "A-1").write_text("a" * 30_000, "utf-8")
    (tmp_path / "B").symlink_to("B-2")
    assert _text.read() == "a" * 30_000 + "b" * 30_000


def test_text_that_is_not_utf_8_is_refused_by_name(own_text):
    own_text.write_bytes(b"\xff\xfe" * 30_000)
    with pytest.raises(ValueError, match=r"text\.txt is not a text in UTF-8"):
        _text.read()
