import pytest
import torch
import transformers
from sparsecode_transformer.readout import output_logits
from sparsecode_transformer.sites import find_sites
from sparsecode_transformer.whole_model import WholeModel

V, D = 40, 8
SIZES = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=V, n_embd=D, n_layer=3, n_head=2, n_positions=32),
    "llama": lambda: transformers.LlamaConfig(**SIZES, intermediate_size=12, num_key_value_heads=1),
    "neox": lambda: transformers.GPTNeoXConfig(**SIZES, intermediate_size=12),
}


@pytest.fixture(params=["gpt2", "llama", "neox"])
def whole(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[request.param]()).eval()
        for name, weight in model.named_parameters():
            weight.data.normal_(0, 0.3) if "norm" not in name and "ln" not in name else weight.data.normal_(1, 0.3)
    return WholeModel("causal", model, model.base_model)


def test_a_large_step_along_a_direction_gives_its_logits(whole):
    site = find_sites(whole.body, -1 - 1)[0]
    directions = torch.randn(3, D, generator=torch.Generator().manual_seed(1))
    found = output_logits(whole, site, directions)
    assert found.shape == (3, V)
    # Where the direction outweighs all else in the stream, the model's last norm and head see only it.
    norm = next(child for child in reversed(list(whole.body.children())) if "norm" in type(child).__name__.lower())
    with torch.no_grad():
        by_hand = whole.model.get_output_embeddings()(norm(1e4 * directions)) - whole.model.get_output_embeddings()(
            norm(torch.zeros(1, D))
        )
    for one, other in zip(found, by_hand, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.9999


def test_the_output_of_the_model_is_read_without_the_norm(whole):
    site = find_sites(whole.body, -1)[0]
    found = output_logits(whole, site, torch.eye(D)[:2])
    torch.testing.assert_close(found, whole.model.get_output_embeddings().weight.T[:2])


def test_directions_of_another_width_and_encoders_have_no_logits(whole):
    site = find_sites(whole.body, 0)[0]
    assert output_logits(whole, site, torch.eye(D + 1)) is None
    assert output_logits(WholeModel("encoder", whole.model, whole.body), site, torch.eye(D)) is None
