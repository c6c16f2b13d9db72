"""The evolutions that the evidence compares: each is a pipeline file with some keys changed."""

import re
from dataclasses import dataclass, field

ROUNDS = 3


@dataclass(frozen=True)
class Variant:
    """An evolution, run for several seeds."""

    name: str
    what: str
    keys: dict = field(default_factory=dict)
    pipeline: str = "nano.toml"
    # Whether it is run for the seeds of --pairs: the difference between a trained and a frozen
    # Questioner is small, so it needs more seeds.
    paired: bool = False


METHOD = Variant("nano", "the method, `pipelines/nano.toml`", paired=True)
FROZEN = Variant("frozen", "the Questioner is not trained: `update.questioner.steps = 0`", {"update.questioner.steps": "0"}, paired=True)
LABELLED = Variant("labelled", "baseline, GRPO on correct answers with as many steps: `pipelines/nano-labelled.toml`", pipeline="nano-labelled.toml")
SHUFFLED = Variant("shuffled", 'control, shuffled pseudo-labels: `curriculum.labels = "shuffled"`, `round.keep_best = false`',
                   {"curriculum.labels": '"shuffled"', "round.keep_best": "false"})
# A quarter of the images: so few questions that the choice of questions matters.
FEW = Variant("few", "150 images a round: `round.images = 150`", {"round.images": "150"}, paired=True)
FEW_FROZEN = Variant("few-frozen", "150 images a round, the Questioner is not trained", {"round.images": "150", "update.questioner.steps": "0"}, paired=True)
ABLATIONS = [
    Variant("no-margin", "`curriculum.min_margin = 0`", {"curriculum.min_margin": "0.0"}),
    Variant("greedy-agrees", "`curriculum.greedy_agrees = true`", {"curriculum.greedy_agrees": "true"}),
    Variant("no-form-check", "`questioner.form_check = false`", {"questioner.form_check": "false"}),
    Variant("duplicates", "`curriculum.deduplicate = false`", {"curriculum.deduplicate": "false"}),
    Variant("no-keep-best", "`round.keep_best = false`", {"round.keep_best": "false"}),
    Variant("ten-votes", "`curriculum.label_samples = 10`", {"curriculum.label_samples": "10"}),
    Variant("no-sharing", "`questioner.share_equal` and `curriculum.share_equal = false`",
            {"questioner.share_equal": "false", "curriculum.share_equal": "false"}),
    Variant("fast", "`update.questioner.learning_rate = 1e-4`: a Questioner that goes further", {"update.questioner.learning_rate": "1e-4"}),
    Variant("held", "`update.questioner.beta = 0.2`: a Questioner that stays nearer to how it began", {"update.questioner.beta": "0.2"}),
    Variant("band-code", "the released code's band, 0.3 to 0.8 (the method has the paper's, 0.25 to 0.75)", {"curriculum.low": "0.3", "curriculum.high": "0.8"}),
]
COLLAPSE = Variant("collapse", "meant to collapse: `questioner.lambda = 0`, `questioner.scope = \"step\"`, `update.questioner.learning_rate = 1e-2`, `update.questioner.beta = 0`",
                   {"questioner.lambda": "0.0", "questioner.scope": '"step"', "update.questioner.learning_rate": "1e-2",
                    "update.questioner.beta": "0.0"})


def set_key(text, key, value):
    """Returns the text of a pipeline file with another value of a key, which the file must have."""
    section, name = key.rsplit(".", 1)
    before, mark, rest = text.partition(f"\n[{section}]\n")
    body, end, after = rest.partition("\n[")
    body, changed = re.subn(rf"^{name} = .*$", f"{name} = {value}", body, count=1, flags=re.M)
    if not (mark and changed):
        raise SystemExit(f"the pipeline file has no key {key}")
    return before + mark + body + end + after


def pipeline_text(variant, seed, folder, labelled):
    """Returns the text of a variant's pipeline file for a seed."""
    text = (folder / variant.pipeline).read_text()
    text = re.sub(r"^evolution = .*", f'evolution = "{variant.name}-{seed}"', text, flags=re.M)
    text = text.replace("../data/scenes-labelled.parquet", str(labelled))
    text = text.replace('"prompts/', f'"{folder}/prompts/').replace('"../data/', f'"{folder.parent}/data/')
    for key, value in {"round.seed": seed, **variant.keys}.items():
        text = set_key(text, key, value)
    return text
