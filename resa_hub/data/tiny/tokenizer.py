"""The tokenizer of the family: 32 tokens, one a character, and the tags of reasoning.

A character it does not know is an error, never a guess: there is no unknown token.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
CHARACTERS = "0123456789+-*=;?"
SIZE = 32
# A user turn is the problem, an assistant turn the completion.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% if message['role'] == 'assistant' "
    "%}{{ eos_token }}{% endif %}{% endfor %}"
)


def vocabulary() -> dict[str, int]:
    tokens = [*SPECIAL, *TAGS, *CHARACTERS]
    tokens += [f"<unused{i}>" for i in range(SIZE - len(tokens))]
    return {token: index for index, token in enumerate(tokens)}


def build() -> PreTrainedTokenizerFast:
    """A fast tokenizer that survives `save_pretrained` and `AutoTokenizer.from_pretrained`."""
    raw = Tokenizer(models.WordLevel(vocabulary(), unk_token=None))  # pyright: ignore[reportArgumentType]
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # pyright: ignore
    raw.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    raw.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    raw.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    raw.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<bos> $A", special_tokens=[("<bos>", raw.token_to_id("<bos>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
