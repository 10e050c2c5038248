"""A model run again with what passes at a layer replaced, beside a plain loop with hooks of its own."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from sparsecode_transformer import TransformerActivations
from sparsecode_transformer.whole_model import load_whole_model, model_kind

from sparsecode_pl.data import ActivationStore, Passage, SubsetSource

CAUSAL = ["llama", "gpt2", "neox"]
V, D, L = 300, 8, 3
SIZES = {"hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 2, "intermediate_size": 12}


def config(name: str, tokenizer) -> transformers.PretrainedConfig:
    sizes = SIZES | {"vocab_size": len(tokenizer)}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    match name:
        case "llama":
            return transformers.LlamaConfig(**sizes, num_key_value_heads=1, **special)
        case "gpt2":
            return transformers.GPT2Config(
                vocab_size=len(tokenizer), n_embd=D, n_layer=L, n_head=2, n_positions=64, **special
            )
        case "neox":
            return transformers.GPTNeoXConfig(**sizes, **special)
    return transformers.BertConfig(**sizes, max_position_embeddings=64)


def save(folder: Path, name: str, tokenizer, head: bool = True) -> str:
    """Save a small model, whose weights are large enough for every part to matter."""
    kind = transformers.AutoModelForCausalLM if head and name != "bert" else transformers.AutoModel
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.from_config(config(name, tokenizer))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def saved(tmp_path_factory, gpt2, wordpiece) -> dict[str, str]:
    """The folders of small models with their heads."""
    folder = tmp_path_factory.mktemp("heads")
    tokenizers = dict.fromkeys(CAUSAL, gpt2) | {"bert": wordpiece}
    return {name: save(folder / name, name, tokenizer) for name, tokenizer in tokenizers.items()}


def activations(model: str, text: str, **kwargs) -> TransformerActivations:
    settings = {"num_activations": None, "device": "cpu", "batch_tokens": 128, "context_length": 32, "skip_first": 1}
    return TransformerActivations(model, text, **settings | kwargs)


def layer(data: TransformerActivations, name: str):
    return next(source for source in data.layers if source.place.layer == name)


def outputs(rerun, documents, replace=None) -> list[tuple[Passage, torch.Tensor]]:
    return [(passage, rerun(passage, replace)) for passage in rerun.passages(torch.tensor(documents))]


def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def plain(folder: str, data, replace, module: str, side: str, documents) -> dict[int, torch.Tensor]:
    """The output for each document, without batches or padding, by hooks of its own; unpacked text only."""
    whole = load_whole_model(folder, device="cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = Path(data._capture.recipe.text).read_text(encoding="utf-8").splitlines()
    part = whole.body.get_submodule(module) if module else whole.body
    found = {}
    for number in documents:
        ids = torch.tensor([tokenizer(texts[number], truncation=True, max_length=32)["input_ids"]])
        special = torch.isin(ids[0], torch.tensor(tokenizer.all_special_ids))
        rows = ((torch.arange(len(ids[0])) >= 1) & ~special).nonzero().flatten()

        def change(states, rows=rows):
            new = states.clone()
            new[0, rows] = replace(states[0, rows])
            return new

        def before(_, args, kwargs, change=change):
            return (change(args[0]), *args[1:]), kwargs

        def after(_, __, output, change=change):
            if isinstance(output, torch.Tensor):
                return change(output)
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            output["last_hidden_state"] = change(output["last_hidden_state"])
            return output

        if side == "input":
            handle = part.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = part.register_forward_hook(after)
        with handle, torch.no_grad():
            found[number] = whole.model(input_ids=ids)[0][0]
    return found


PLACES = {
    "llama": [
        ({}, "1", "layers.1", "input"),
        ({}, "3", "", "output"),
        ({"site": "mlp"}, "mlp.1", "layers.1.mlp.down_proj", "output"),
        ({"site": "attention"}, "attention.0", "layers.0.self_attn", "output"),
        ({"site": "mlp_hidden"}, "mlp_hidden.2", "layers.2.mlp.down_proj", "input"),
        ({"layers": "layers.1"}, "layers.1", "layers.1", "output"),
    ],
    "gpt2": [
        ({}, "0", "h.0", "input"),
        ({}, "3", "", "output"),
        ({"site": "attention"}, *("attention.1", "h.1.attn"), "output"),
    ],
    "neox": [({}, "2", "layers.2", "input"), ({"site": "attention"}, "attention.1", "layers.1.attention", "output")],
    "bert": [({}, "1", "encoder.layer.1", "input"), ({}, "3", "", "output")],
}


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in PLACES.items() for place in places])
def test_it_is_a_plain_loop_over_documents(saved, text, name, place):
    settings, label, module, side = place
    data = activations(saved[name], text, **settings)
    rerun = layer(data, label).rerun
    documents = [4, 11, 60]
    expected = plain(saved[name], data, halved, module, side, documents)
    clean = plain(saved[name], data, torch.clone, module, side, documents)
    seen = set()
    for passage, output in outputs(rerun, documents, halved):
        for ids, mask, document, logits in zip(
            passage.input_ids, passage.attention_mask.bool(), passage.document, output, strict=True
        ):
            number = int(document[0])
            assert (document[mask] == number).all()
            assert len(ids[mask]) == len(expected[number])
            torch.testing.assert_close(logits[mask], expected[number], atol=1e-5, rtol=1e-5)
            assert not torch.allclose(logits[mask], clean[number], atol=1e-3)
            seen.add(number)
    assert seen == set(documents)


@pytest.mark.parametrize("name", [*CAUSAL, "bert"])
@pytest.mark.parametrize("site", ["residual", "mlp", "attention", "mlp_hidden"])
def test_with_the_activations_themselves_the_output_is_the_same_bit_for_bit(saved, text, name, site):
    data = activations(saved[name], text, site=site)
    for source in data.layers:
        for (_, clean), (_, again) in zip(
            outputs(source.rerun, [3, 7]), outputs(source.rerun, [3, 7], lambda x: x), strict=True
        ):
            assert torch.equal(clean, again)


def test_it_sees_the_rows_and_leaves_all_else_as_it_is(saved, text):
    source = layer(activations(saved["gpt2"], text), "2")
    columns, seen = source.columns, []
    wanted = [5, 6, 7, 8]
    for _ in outputs(source.rerun, wanted, lambda x: seen.append(x) or x):
        pass
    rows = source.rows[torch.isin(columns["document"], torch.tensor(wanted))]
    seen = torch.cat(seen)
    assert seen.shape == rows.shape
    torch.testing.assert_close(seen.sort(dim=0).values, rows.sort(dim=0).values, atol=1e-5, rtol=1e-5)


def test_what_is_judged_is_the_text_and_follows_a_token_of_the_same_document(saved, text):
    source = layer(activations(saved["llama"], text), "1")
    for passage in source.rerun.passages(torch.tensor([2, 3, 9])):
        last = passage.attention_mask.sum(1) - 1
        for row, end in enumerate(last.tolist()):
            assert passage.replaced[row].nonzero().flatten().tolist() == list(range(1, end + 1))  # skip_first is 1
            assert passage.judged[row].nonzero().flatten().tolist() == list(range(end))


def test_of_an_encoder_the_tokens_that_count_are_judged(saved, text):
    source = layer(activations(saved["bert"], text, skip_first=0), "1")
    assert source.rerun.kind == "encoder"
    for passage in source.rerun.passages(torch.tensor([2, 3])):
        assert torch.equal(passage.judged, passage.replaced)
        assert not passage.judged[:, 0].any()  # CLS
        assert (passage.judged.sum(1) == passage.attention_mask.sum(1) - 2).all()


def test_of_packed_text_only_the_documents_asked_for_are_judged(saved, text):
    source = layer(activations(saved["gpt2"], text, packing=True, context_length=24), "1")
    wanted = torch.tensor([10, 11])
    judged = replaced = 0
    for passage in source.rerun.passages(wanted):
        rows, positions = passage.judged.nonzero(as_tuple=True)
        for at in (positions, positions + 1):
            assert torch.isin(passage.document[rows, at], wanted).all()
        assert (passage.document[rows, positions] == passage.document[rows, positions + 1]).all()
        assert (passage.input_ids[rows, positions + 1] != 0).all()  # no separator is predicted
        assert not passage.replaced[:, 0].any()
        judged += len(rows)
        replaced += int(passage.replaced.sum())
    count = int(torch.isin(source.columns["document"], wanted).sum())
    assert count - 2 <= judged <= count + 2
    assert replaced > judged  # other documents in the same sequences are replaced alike


def test_padding_makes_no_difference(saved, text):
    apart = layer(activations(saved["neox"], text, batch_tokens=1), "1").rerun
    together = layer(activations(saved["neox"], text, batch_tokens=4096), "1").rerun
    wanted = list(range(12))
    one = {int(p.document[0, 0]): out[p.judged] for p, out in outputs(apart, wanted, halved)}
    ((passage, output),) = outputs(together, wanted, halved)
    assert (passage.attention_mask == 0).any()
    for document, mask, logits in zip(passage.document[:, 0].tolist(), passage.judged, output, strict=True):
        torch.testing.assert_close(logits[mask], one[document], atol=1e-5, rtol=1e-5)


def test_tokens_left_out_for_their_norm_are_not_replaced(saved, text):
    source = layer(activations(saved["llama"], text, max_norm_ratio=1.3), "2")
    columns, wanted = source.columns, torch.arange(20)
    rows = int(torch.isin(columns["document"], wanted).sum())
    free = layer(activations(saved["llama"], text), "2").rerun
    replaced = sum(int(passage.replaced.sum()) for passage in source.rerun.passages(wanted))
    assert replaced == rows < sum(int(passage.replaced.sum()) for passage in free.passages(wanted))
    judged = [
        torch.equal(a.judged, b.judged)
        for a, b in zip(*(r.passages(wanted) for r in (source.rerun, free)), strict=True)
    ]
    assert all(judged)


def test_in_another_dtype_what_is_replaced_is_float32(saved, text):
    source = layer(activations(saved["llama"], text, dtype="bfloat16"), "1")
    kinds = []
    for (_, clean), (_, again) in zip(
        outputs(source.rerun, [5]), outputs(source.rerun, [5], lambda x: kinds.append(x.dtype) or x), strict=True
    ):
        assert torch.equal(clean, again)
        assert again.dtype == torch.float32
    assert set(kinds) == {torch.float32}


@pytest.mark.parametrize("randomise", ["all", "all_but_embeddings", "shuffled"])
def test_a_random_model_is_the_one_whose_activations_are_the_rows(saved, text, randomise):
    source = layer(activations(saved["neox"], text, random_weights=3, randomise=randomise), "2")
    seen = []
    outputs(source.rerun, [5], lambda x: seen.append(x) or x)
    rows = source.rows[source.columns["document"] == 5]
    torch.testing.assert_close(torch.cat(seen), rows, atol=1e-5, rtol=1e-5)
    trained = load_whole_model(saved["neox"], device="cpu").model.get_output_embeddings().weight
    weight = source.capture.whole.model.get_output_embeddings().weight
    assert not torch.equal(weight, trained)
    assert torch.equal(weight.flatten().sort().values, trained.flatten().sort().values) == (randomise == "shuffled")


def test_a_head_tied_to_the_embeddings_needs_no_weights_of_its_own(tmp_path, gpt2, text):
    folder = save(tmp_path, "gpt2", gpt2, head=False)
    source = layer(activations(folder, text), "1")
    source.rerun.check()
    whole = source.capture.whole
    assert whole.kind == "causal"
    assert whole.model.get_output_embeddings().weight is whole.body.get_input_embeddings().weight


def test_a_head_that_would_be_drawn_at_random_is_refused(tmp_path, gpt2, text):
    folder = save(tmp_path, "llama", gpt2, head=False)
    source = layer(activations(folder, text), "1")
    with pytest.raises(ValueError, match=r"its files do not hold lm_head\.weight: give .* leave loss out"):
        source.rerun.check()


def test_nothing_is_loaded_before_it_is_asked_for_and_release_frees_it(saved, text, monkeypatch):
    source = layer(activations(saved["gpt2"], text), "1")
    monkeypatch.setattr(source.capture, "capture", lambda: pytest.fail("activations are captured"))
    rerun = source.rerun
    assert "whole" not in vars(source.capture)
    rerun.check()
    assert source.capture.model is source.capture.whole.body
    source.release()
    assert not {"whole", "model"} & vars(source.capture).keys()


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (transformers.LlamaConfig(), "causal"),
        (transformers.OPTConfig(), "causal"),
        (transformers.RobertaConfig(), "encoder"),
        (transformers.RobertaConfig(is_decoder=True), "causal"),
        (transformers.DistilBertConfig(), "encoder"),
        (transformers.BartConfig(), "encoder"),
    ],
)
def test_the_configuration_says_what_the_output_is(made, kind):
    assert model_kind(made) == kind


def test_documents_that_the_text_lacks_are_refused(saved, text):
    rerun = layer(activations(saved["gpt2"], text), "1").rerun
    with pytest.raises(ValueError, match="documents has 999, but those of the text are 0 to 79"):
        next(rerun.passages(torch.tensor([1, 999])))
    with pytest.raises(ValueError, match="documents are none"):
        next(rerun.passages(torch.tensor([], dtype=torch.int64)))


def test_a_store_runs_the_model_that_filled_it(saved, text, tmp_path):
    activations(saved["gpt2"], text, store=str(tmp_path / "store")).cache()
    stored = ActivationStore(str(tmp_path / "store"), layer="2").source
    direct = layer(activations(saved["gpt2"], text), "2")
    subset = SubsetSource(stored, torch.arange(50))
    for source in (stored, subset):
        for (_, one), (_, other) in zip(
            outputs(source.rerun, [3], halved), outputs(direct.rerun, [3], halved), strict=True
        ):
            assert torch.equal(one, other)
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())
