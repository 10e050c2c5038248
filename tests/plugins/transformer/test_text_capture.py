"""How the activations come to be kept: passes, counts, norms, and what is refused."""

import logging
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from sparsecode_transformer import TransformerActivations, room, text_capture
from transformers import AutoTokenizer

from sparsecode_pl.data import Store, StoreWriter


def activations(model, text, **kwargs) -> TransformerActivations:
    return TransformerActivations(
        model, text, **{"num_activations": None, "device": "cpu", "batch_tokens": 128} | kwargs
    )


def over_text(passes) -> list[tuple[int, ...]]:
    """The passes without those of two tokens that find out the widths."""
    return [shape for shape in passes if shape != (1, 2)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rare_token(model: str, text: str) -> tuple[int, int, list[int]]:
    """A token that stands in few documents: its number, how often it stands there, and the documents."""
    lines = Path(text).read_text().splitlines()
    token = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids("Q")
    return token, sum(line.count("Q") for line in lines), [i for i, line in enumerate(lines) if "Q" in line]


@pytest.fixture
def small_save(tmp_path, save_small):
    """Saves the small model with something planted, and gives its folder."""
    return lambda plant: save_small(tmp_path / "planted", plant)


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO)
    return caplog


# --- one pass ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("layers", [2, "all"])
def test_one_pass_over_the_text_serves_all_layers(small, text, tmp_path, passes, layers, stored):
    data = activations(small, text, layers=layers, store=str(tmp_path / "store") if stored else None)
    parts = data.sources()
    for part in parts:
        assert len(part.columns["token_id"]) == len(part.rows)
    assert len(parts) == {2: 1, "all": 4}[layers]
    assert sum(rows for rows, _ in over_text(passes)) == 80  # each document once
    assert passes.count((1, 2)) == 1


def test_a_limit_of_the_norm_takes_one_calibration_more(small, text, passes):
    _ = activations(small, text).sources()[0].rows
    plain = sum(rows for rows, _ in over_text(passes))
    passes.clear()
    for part in activations(small, text, max_norm_ratio=50).sources():
        _ = part.rows
    assert sum(rows for rows, _ in over_text(passes)) == 2 * plain  # all of so short a text


def test_a_complete_store_is_read_without_the_model(small, text, tmp_path, passes):
    store = str(tmp_path / "store")
    first = activations(small, text, store=store)
    first.prepare_data()
    passes.clear()
    again = activations(small, text, store=store)
    assert again.cache() == Path(store)
    for part, other in zip(again.sources(), first.sources(), strict=True):
        assert torch.equal(part.rows[:], other.rows[:])
        assert part.d_model == other.d_model == 8
    assert passes == []


def test_the_sources_are_the_same_each_time(small, text):
    data = activations(small, text)
    assert all(one is two for one, two in zip(data.sources(), data.sources(), strict=True))


def test_all_hooks_are_removed(small, text, monkeypatch):
    models = []

    def load(*args, **kwargs):
        models.append(load_model(*args, **kwargs))
        return models[-1]

    load_model = text_capture.load_model
    monkeypatch.setattr(text_capture, "load_model", load)
    data = activations(small, text, stream=True, num_activations=200, batch_size=32, buffer_size=64)
    part = data.over(data.sources()[1])
    part.setup()
    part.train_batch(0, 0)
    (model,) = models
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [2, 137, 1000])
@pytest.mark.parametrize("stored", [False, True])
def test_num_activations_is_exact(small, text, tmp_path, num, stored):
    data = activations(
        small, text, num_activations=num, store=str(tmp_path / "store") if stored else None, shard_rows=100
    )
    for part in data.sources():
        assert part.rows.shape == (num, 8)
        assert {len(column) for column in part.columns.values()} == {num}


def places(columns, chosen=None) -> list[tuple[int, int]]:
    """Where in the text activations stand, in the order of the text."""
    pairs = zip(columns["document"].tolist(), columns["document_position"].tolist(), strict=True)
    return sorted(pair for number, pair in enumerate(pairs) if chosen is None or chosen[number])


@pytest.mark.parametrize("num", [2, 137, 1500])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("extra", [{}, {"shard_rows": 300}, {"packing": True, "context_length": 50}])
def test_num_activations_takes_the_first_of_the_text(small, text, tmp_path, num, stored, extra):
    everything = activations(small, text, layers=[0, 2], **extra).sources()[1]
    store = str(tmp_path / "store") if stored else None
    some = activations(small, text, layers=[0, 2], num_activations=num, store=store, **extra).sources()[1]
    first = places(everything.columns)[:num]
    assert places(some.columns) == first
    rows, expected = (
        dict(
            zip(
                zip(x.columns["document"].tolist(), x.columns["document_position"].tolist(), strict=True),
                x.rows[:],
                strict=True,
            )
        )
        for x in (some, everything)
    )
    for place in first:  # each row is that of its token
        torch.testing.assert_close(rows[place], expected[place], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("stored", [False, True])
def test_a_text_too_short_says_how_many_there_are_before_any_pass_and_begins_no_store(
    small, text, tmp_path, passes, stored
):
    there = len(activations(small, text, layers=0).rows)
    passes.clear()
    store = tmp_path / "store"
    data = activations(small, text, num_activations=there + 1, store=str(store) if stored else None)
    with pytest.raises(ValueError, match=rf"num_activations is {there + 1:,}, but the text gives {there:,}"):
        data._capture.capture()
    assert passes == []
    assert not store.exists()


# --- norms ------------------------------------------------------------------------------------------------------------


def outlier(token, size=1000.0):
    def plant(model):
        model.embed_tokens.weight[token] *= size

    return plant


def test_tokens_of_outlying_norm_are_left_out_and_counted(small, small_save, text, tmp_path, logged):
    token, times, _ = rare_token(small, text)
    planted = small_save(outlier(token))
    everything = activations(planted, text, layers=[1, 2])
    limited = activations(planted, text, layers=[1, 2], max_norm_ratio=30, store=str(tmp_path / "store"))
    usual = everything.sources()[0].columns["token_id"] != token
    assert (~usual).sum() == times
    logged.clear()
    for part, all_of_it in zip(limited.sources(), everything.sources(), strict=True):
        assert torch.equal(part.rows[:], all_of_it.rows[usual])
        for name, column in part.columns.items():
            assert torch.equal(column, all_of_it.columns[name][usual])
    facts = Store(tmp_path / "store").facts
    assert facts["dropped_for_norm"] == times
    assert set(facts["norm_limits"]) == {"1", "2"}
    for name, part in zip("12", everything.sources(), strict=True):
        assert facts["norm_limits"][name] == pytest.approx(30 * part.rows.norm(dim=1).median().item(), rel=1e-4)
    assert f"{times} of {len(usual):,} tokens are left out ({times / len(usual):.2%})" in logged.text


@pytest.mark.parametrize("num", [400, 801])
@pytest.mark.parametrize("shard_rows", [60, 65_536])
def test_the_first_that_pass_the_norm_limit_are_taken(small, small_save, text, tmp_path, num, shard_rows):
    tokens = activations(small, text, layers=0).source.columns["token_id"]
    values, counts = tokens.unique(return_counts=True)
    token = values[(counts - 0.03 * len(tokens)).abs().argmin()]
    planted = small_save(outlier(token))
    columns = activations(planted, text, layers=1).source.columns
    settings = {"layers": 1, "num_activations": num, "max_norm_ratio": 30, "shard_rows": shard_rows}
    some = activations(planted, text, store=str(tmp_path / "store"), **settings).source
    assert places(some.columns) == places(columns, columns["token_id"] != token)[:num] != places(columns)[:num]
    in_memory = activations(planted, text, **settings).source
    assert torch.equal(in_memory.rows, some.rows[:])
    assert all(torch.equal(column, some.columns[name]) for name, column in in_memory.columns.items())


def test_what_is_cut_off_at_num_activations_is_not_counted_as_dropped(small, text, tmp_path):
    data = activations(small, text, num_activations=500, max_norm_ratio=1000, store=str(tmp_path / "store"))
    data.prepare_data()
    store = Store(tmp_path / "store")
    assert (store.num_rows, store.facts["dropped_for_norm"]) == (500, 0)


def test_norms_that_leave_too_few_are_named_as_the_reason(small, text):
    data = activations(small, text, num_activations=1500, max_norm_ratio=1.01)
    with pytest.raises(ValueError, match=r"num_activations is 1,500.*max_norm_ratio 1.01 leaves out [\d,]+: raise it"):
        _ = data.sources()[0].rows


def test_a_shard_of_which_nothing_is_left_is_refused(small, text, small_save, tmp_path):
    planted = small_save(outlier(rare_token(small, text)[0]))
    (tmp_path / "text.txt").write_text("once upon a time\nQ\na cat\n")
    data = activations(
        planted, str(tmp_path / "text.txt"), max_norm_ratio=30, store=str(tmp_path / "store"), shard_rows=1
    )
    with pytest.raises(ValueError, match=r"max_norm_ratio is 30.*shard_rows, which is 1"):
        data.prepare_data()


# --- what is wrong with the model or the settings ------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_nan_names_the_layer_and_the_document(small, small_save, text, tmp_path, stored):
    token, _, documents = rare_token(small, text)

    def plant(model):
        model.layers[1].mlp.down_proj.weight[3, 5] = torch.nan

    store = str(tmp_path / "store") if stored else None
    with pytest.raises(ValueError, match=r"layer '2' has values that are NaN or infinite .*document \d+"):
        activations(small_save(plant), text, store=store)._capture.capture()
    with pytest.raises(ValueError, match=r"layer '0' has values that are NaN.*document (\d+)") as caught:
        activations(small_save(outlier(token, torch.nan)), text)._capture.capture()
    assert any(f"document {document}," in str(caught.value) for document in documents)


def test_nan_in_a_stream_names_the_layer_and_the_document(small, small_save, text):
    token, _, documents = rare_token(small, text)
    planted = small_save(outlier(token, torch.nan))
    there = len(activations(small, text, layers=0).rows)
    first = documents[0]  # beyond what is scored
    before = int((activations(small, text, layers=0).source.columns["document"] < first).sum())
    assert 2 <= before < there
    data = activations(planted, text, layers=1, num_activations=before, stream=True, batch_size=16, buffer_size=4096)
    data.setup()
    with pytest.raises(ValueError, match="layer '1' has values that are NaN") as caught:
        data.train_batch(0, 0)
    assert any(f"(document {document})" in str(caught.value) for document in documents)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context_length", 20),
        ("skip_first", 1),
        ("layers", [0, 1]),
        ("packing", True),
        ("store_dtype", "float16"),
        ("shard_rows", 300),
        ("random_weights", 3),
    ],
)
def test_a_store_made_with_other_settings_is_refused_and_the_setting_named(
    small, text, tmp_path, name, value, complete, monkeypatch
):
    store = str(tmp_path / "store")
    if not complete:
        monkeypatch.setattr(StoreWriter, "finish", lambda self, **facts: None)
    activations(small, text, store=store).prepare_data()
    monkeypatch.undo()
    content = files(tmp_path / "store")
    with pytest.raises(ValueError, match=rf"^{name} is .*, but the store at .* was made with .*: give the same"):
        activations(small, text, store=store, **{name: value}).prepare_data()
    assert files(tmp_path / "store") == content


@pytest.mark.parametrize("complete", [True, False])
def test_a_store_of_other_random_weights_is_refused(small, text, tmp_path, complete, monkeypatch):
    store = str(tmp_path / "store")
    if not complete:
        monkeypatch.setattr(StoreWriter, "finish", lambda self, **facts: None)
    activations(small, text, store=store, random_weights=0, randomise="shuffled").prepare_data()
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"^randomise is 'all', but the store at .* was made with 'shuffled': give"):
        activations(small, text, store=store, random_weights=0).prepare_data()
    activations(small, text, store=store, random_weights=0, randomise="shuffled").prepare_data()
    assert Store(store).complete


def test_a_store_of_a_time_before_there_was_a_choice_of_what_is_random_is_read(small, text, tmp_path, passes):
    settings = {"store": str(tmp_path / "store"), "layers": 1, "random_weights": 0}
    activations(small, text, **settings).prepare_data()
    assert "randomise" not in Store(tmp_path / "store").source["init_args"]
    passes.clear()
    activations(small, text, **settings).prepare_data()
    assert passes == []
    with pytest.raises(ValueError, match=r"^randomise is 'shuffled', but the store at .* was made with 'all': give"):
        activations(small, text, **settings, randomise="shuffled").prepare_data()


def test_a_store_of_other_weights_is_not_gone_on_with(small, small_save, text, tmp_path, monkeypatch):
    planted = small_save(lambda model: None)
    monkeypatch.setattr(StoreWriter, "finish", lambda self, **facts: None)
    activations(planted, text, store=str(tmp_path / "store")).prepare_data()
    monkeypatch.undo()
    small_save(lambda model: model.norm.weight.mul_(2))
    with pytest.raises(ValueError, match="weights"):
        activations(planted, text, store=str(tmp_path / "store")).prepare_data()


@pytest.mark.parametrize("stored", [False, True])
def test_a_disk_or_memory_too_small_is_found_before_any_pass_over_the_text(
    small, text, tmp_path, passes, monkeypatch, stored
):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000))
    monkeypatch.setattr(room, "total_memory", lambda _: 1000)
    store = tmp_path / "new" / "store"
    data = activations(small, text, num_activations=100, store=str(store) if stored else None)
    with pytest.raises(OSError, match=r"100 activations of 4 layers take .*but there are .*lower num_activations"):
        data._capture.capture()
    assert over_text(passes) == []
    assert not store.exists()


def test_the_size_is_said_beforehand(small, text, tmp_path, logged):
    activations(small, text, num_activations=1024, store=str(tmp_path / "store"), store_dtype="float16").prepare_data()
    assert "1,024 activations of 4 layers take 0 MB in" in logged.text
    size = sum(len(content) for name, content in files(tmp_path / "store").items() if "layers" in name)
    assert size == pytest.approx(1024 * 4 * 8 * 2, abs=4 * 300)  # and their headers


@pytest.mark.parametrize("cut", [0, 1, 3])
@pytest.mark.parametrize(
    "extra", [{}, {"max_norm_ratio": 1.5}, {"num_activations": 1500}, {"num_activations": 1200, "max_norm_ratio": 1.9}]
)
def test_a_store_cut_off_is_gone_on_with_to_the_same_bytes(small, text, tmp_path, monkeypatch, extra, cut, passes):
    def once(name):
        return activations(small, text, store=str(tmp_path / name), shard_rows=350, **extra)

    class Killed(BaseException):
        pass

    def commit_shard(self, manifest):
        if self.num_shards == cut:
            raise Killed
        original(self, manifest)

    original = StoreWriter._commit_shard
    monkeypatch.setattr(StoreWriter, "_commit_shard", commit_shard)
    with pytest.raises(Killed):
        once("store").prepare_data()
    monkeypatch.setattr(StoreWriter, "_commit_shard", original)
    assert Store(tmp_path / "store", partial=True).num_rows >= cut
    passes.clear()
    once("store").prepare_data()
    rest = len(over_text(passes))
    passes.clear()
    once("whole").prepare_data()
    assert cut == 0 or rest < len(over_text(passes))
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_a_store_cut_off_before_its_end_mark_needs_no_more_passes(small, text, tmp_path, monkeypatch, passes):
    settings = {"num_activations": 400, "shard_rows": 90}
    activations(small, text, store=str(tmp_path / "whole"), **settings).prepare_data()
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", lambda self, **facts: self.end_shard())
        activations(small, text, store=str(tmp_path / "store"), **settings).prepare_data()
    store = Store(tmp_path / "store", partial=True)
    assert (store.num_rows, store.complete) == (400, False)
    passes.clear()
    activations(small, text, store=str(tmp_path / "store"), **settings).prepare_data()
    assert over_text(passes) == []
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_a_store_that_an_earlier_version_began_is_resumed(small, text, tmp_path, monkeypatch):
    settings = {"store": str(tmp_path / "store"), "num_activations": 400, "shard_rows": 90}
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", lambda self, **facts: self.end_shard())
        activations(small, text, **settings).prepare_data()
    path = tmp_path / "store" / "manifest.json"
    path.write_text(path.read_text().replace(".TransformerActivations", ".HookedTransformer"))
    activations(small, text, **settings).prepare_data()
    store = Store(tmp_path / "store")
    assert store.complete
    assert store.source["class_path"] == "sparsecode_transformer.HookedTransformer"


def test_what_is_not_finite_is_no_outlier(small, small_save, text):
    token, _, _ = rare_token(small, text)
    for value in (torch.nan, torch.inf):
        planted = small_save(outlier(token, value))
        with pytest.raises(ValueError, match=r"layer '0' has values that are NaN or infinite .*document \d+"):
            activations(planted, text, layers=0, max_norm_ratio=20)._capture.capture()


def test_a_complete_store_of_another_text_or_model_is_refused(small_save, text, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text(Path(text).read_text())
    model, store = small_save(lambda model: None), str(tmp_path / "store")
    activations(model, str(own), store=store).prepare_data()
    activations(model, str(own), store=store).prepare_data()
    own.write_text(own.read_text().replace("e", "a"))
    with pytest.raises(ValueError, match=r"text is '.*own.txt', whose content has changed since the store"):
        activations(model, str(own), store=store).prepare_data()
    own.write_text(Path(text).read_text())
    activations(model, str(own), store=store).prepare_data()
    small_save(outlier(5, 3.0))
    with pytest.raises(ValueError, match=r"model_name_or_path is '.*', whose content has changed since the store"):
        activations(model, str(own), store=store).prepare_data()


@pytest.mark.parametrize("name", ["dtype", "store_dtype"])
def test_an_unknown_dtype_is_refused_at_once(small, text, name):
    with pytest.raises(ValueError, match=f"{name} is 'float8': give one of float32, bfloat16, float16"):
        activations(small, text, **{name: "float8"})


def test_a_store_that_is_being_written_is_waited_for(small, text, tmp_path, logged, monkeypatch):
    first = activations(small, text, store=str(tmp_path / "store"))
    busy = StoreWriter(tmp_path / "store", {"0": 8})
    naps = []

    def nap(seconds):
        naps.append(seconds)
        busy.__exit__(None, None, None)
        (tmp_path / "store" / "manifest.json").unlink()

    monkeypatch.setattr("time.sleep", nap)
    first._capture._wait_for_writer(lambda: StoreWriter(tmp_path / "store", {"0": 8}))
    assert len(naps) == 1
    assert "another writer" in logged.text
