"""The rules give the expected numbers, and the same bits whatever stands around them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.evaluate import normalised
from fi_stream.aggregation.rules import RULES, entropy, entropy_weights, hard, rule, soft
from fi_stream.errors import ConfigError

# One stack of five predictions, eight rows, four classes, with outputs computed elsewhere from the
# formulas. In row 5 nobody knows; in row 6 four sure participants tie and the fifth does not know.
PREDICTIONS = np.array(
    [
        [
            [0.002949346056605256, 0.041205983238669, 0.5224783094960186, 0.4333663612087072],
            [0.030426070649018217, 0.2779106969338943, 0.2992561297786148, 0.39240710263847256],
            [0.46932545238214596, 0.06011722800433704, 0.35117913735488854, 0.11937818225862855],
            [0.2686756286994077, 0.16944100459088693, 0.25252362551241003, 0.30935974119729537],
            [0.26323640611165205, 0.21019853964808416, 0.1985522939410843, 0.3280127602991794],
            [0.25, 0.25, 0.25, 0.25],
            [0.9479149938275155, 0.01736166872416146, 0.01736166872416146, 0.01736166872416146],
            [0.03535691237131932, 0.05754078001855197, 0.8325505278619184, 0.07455177974821019],
        ],
        [
            [0.13067913139604, 0.4639352244069769, 0.01280383761816805, 0.392581806578815],
            [0.197012349406597, 0.7057537736431663, 0.013280096546854834, 0.08395378040338193],
            [0.24967846704863794, 0.3086395089918166, 0.20771645618231976, 0.2339655677772258],
            [0.0043341548094731, 0.0064917141803564095, 0.91280896711379, 0.07636516389638047],
            [0.0817561066828644, 0.032843061549496406, 0.8658749568182137, 0.019525874949425426],
            [0.25, 0.25, 0.25, 0.25],
            [0.01736166872416146, 0.9479149938275155, 0.01736166872416146, 0.01736166872416146],
            [0.00034966971815630807, 0.20793671270486766, 0.6740024645857877, 0.11771115299118821],
        ],
        [
            [0.03809284938146005, 0.00294475783417948, 0.014112015311209852, 0.9448503774731506],
            [0.030053342793448554, 0.5402186126320434, 0.1278648562792519, 0.30186318829525616],
            [0.1495007347458648, 0.7250940042665546, 0.08429320927618393, 0.04111205171139658],
            [0.3996261307830817, 0.5282287544712463, 0.05446342835079261, 0.01768168639487952],
            [0.6900205013500714, 0.144998197201686, 0.011937936961617171, 0.15304336448662534],
            [0.25, 0.25, 0.25, 0.25],
            [0.01736166872416146, 0.01736166872416146, 0.9479149938275155, 0.01736166872416146],
            [0.413354202819533, 0.2377702471583505, 0.03269770393388436, 0.3161778460882322],
        ],
        [
            [0.038789522837694344, 0.11734873942265117, 0.8190541347039207, 0.024807603035733684],
            [0.8265785169747853, 0.1497990773891857, 0.01965427579026745, 0.0039681298457616525],
            [0.09442726954383099, 0.7218590539660923, 0.17872171007286955, 0.004991966417207262],
            [0.039984729161830566, 0.20123987616569583, 0.39209243292270135, 0.3666829617497723],
            [0.05031688345484274, 0.20692174451193424, 0.6554622264248531, 0.08729914560836999],
            [0.25, 0.25, 0.25, 0.25],
            [0.017361668724161467, 0.017361668724161467, 0.017361668724161467, 0.9479149938275157],
            [0.0055630545560837906, 0.09675164535309554, 0.01130389478982773, 0.8863814053009931],
        ],
        [
            [0.038750928090044594, 0.09626980384367242, 0.5731541517201137, 0.2918251163461693],
            [0.01828346630420734, 0.6772206688382045, 0.07451475584586077, 0.2299811090117273],
            [0.003802496979094666, 0.08542663613482795, 0.8841776028844143, 0.026593264001663085],
            [0.18354920309485792, 0.6438609381961431, 0.10600462956598196, 0.06658522914301698],
            [0.6187820890131499, 0.1730798716115247, 0.20721422750021104, 0.0009238118751143704],
            [0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.025768146064041077, 0.09039049159910806, 0.07618305635643348, 0.8076583059804173],
        ],
    ]
)
HARD_VOTES = [
    [0.0, 1.0, 3.0, 1.0],
    [1.0, 3.0, 0.0, 1.0],
    [1.0, 3.0, 1.0, 0.0],
    [0.0, 2.0, 2.0, 1.0],
    [2.0, 0.0, 2.0, 1.0],
    [1.25, 1.25, 1.25, 1.25],
    [1.25, 1.25, 1.25, 1.25],
    [1.0, 0.0, 2.0, 2.0],
]
SOFT_PROBABILITIES = [
    [0.04985235555236885, 0.14434090174922978, 0.3883204897698862, 0.4174862529285151],
    [0.22047074922561127, 0.47018056588729884, 0.10691402284816995, 0.2024346620389199],
    [0.19334688413991485, 0.38022728627272573, 0.3412176231541352, 0.08520820643322426],
    [0.17923396930973018, 0.3098524575208657, 0.34357861669313516, 0.16733495647626892],
    [0.34082239732251607, 0.1536082829045451, 0.3878083283291959, 0.1177609914437429],
    [0.25, 0.25, 0.25, 0.25],
    [0.25, 0.25, 0.25, 0.25],
    [0.0960783971058267, 0.13807797536679473, 0.3253475295055703, 0.44049609802180817],
]
ENTROPY_WEIGHTS = [
    [
        0.42735369613693747,
        0.3041505362183629,
        0.3181378792048247,
        0.2555340749065652,
        0.255169721923697,
        0.25,
        0.7696414865868404,
        0.5333399465255086,
    ],
    [
        0.35165393109237075,
        0.4354496756226734,
        0.25269366487739914,
        0.71463284267089,
        0.5954345526127145,
        0.25,
        0.7696414865868404,
        0.42865368408153937,
    ],
    [
        0.7746329738498018,
        0.34557584965731075,
        0.4244732857046643,
        0.39316451936209773,
        0.4163842885691443,
        0.25,
        0.7696414865868404,
        0.30647254485615244,
    ],
    [
        0.5311695890739364,
        0.5821713996587682,
        0.45279491162528684,
        0.3053374986410292,
        0.3805438398743744,
        0.25,
        0.7696414865868405,
        0.6620390915111068,
    ],
    [
        0.35710591639525363,
        0.419525213016319,
        0.6462027434868045,
        0.3631493861718316,
        0.3932894317549068,
        0.25,
        0.25,
        0.506510191339106,
    ],
]
ENTROPY_PROBABILITIES = [
    [0.045523358357454455, 0.11455998781587184, 0.35973822905856906, 0.4801784247681047],
    [0.2847847563594127, 0.455156340401813, 0.0880224801258301, 0.17203642311294423],
    [0.15330870899177945, 0.37576085086461447, 0.40694909824534875, 0.06398134189825742],
    [0.1514586897673499, 0.27112745558318374, 0.4412209373825677, 0.13619291726689858],
    [0.32617854816393105, 0.1373860483795597, 0.4420446868607889, 0.09439071659572032],
    [0.25, 0.25, 0.25, 0.25],
    [0.25, 0.25, 0.24999999999999997, 0.25],
    [0.06664858979659939, 0.1241390417887674, 0.323772323260159, 0.48544004515447414],
]

every_rule = pytest.mark.parametrize("name", sorted(RULES))


def unit(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Predictions, of which some have a single class, or several that are equal."""
    raw = st.one_of(st.sampled_from([0.0, 0.0, 1.0, 0.5]), st.floats(0.0, 1.0))
    return arrays(np.float64, shape, elements=raw).map(on_the_simplex)


def on_the_simplex(raw: np.ndarray) -> np.ndarray:
    raw = raw + (raw.sum(axis=-1, keepdims=True) < 1e-3)
    return raw / raw.sum(axis=-1, keepdims=True)


shapes = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(2, 12))
stacks = shapes.flatmap(unit)


def test_hard_counts_the_expected_votes() -> None:
    assert_array_equal(hard(PREDICTIONS), HARD_VOTES)


def test_soft_gives_the_expected_probabilities() -> None:
    assert_allclose(normalised(soft(PREDICTIONS)), SOFT_PROBABILITIES, rtol=0, atol=1e-15)


def test_entropy_gives_the_expected_weights_and_probabilities() -> None:
    assert_allclose(entropy_weights(PREDICTIONS), ENTROPY_WEIGHTS, rtol=0, atol=1e-15)
    assert_allclose(normalised(entropy(PREDICTIONS)), ENTROPY_PROBABILITIES, rtol=0, atol=1e-15)


@every_rule
def test_bits_are_the_same_on_every_machine(name: str) -> None:
    """numpy's own log and exp fail this on one processor or another."""
    k = np.arange(6 * 50 * 7, dtype=np.float64).reshape(6, 50, 7)
    raw = (k * 7919 + 13) % 1009 + 1
    predictions = raw / np.add.accumulate(raw, axis=-1)[..., -1:]
    bits = hashlib.sha256(rule(name)(predictions).astype("<f8").tobytes()).hexdigest()
    assert bits[:16] == GOLDEN[name]


GOLDEN = {"hard": "abb5daa4b5fe3beb", "soft": "69d999d7ad59bff6", "entropy": "42f7596e85202202"}


@every_rule
@given(stack=stacks, data=st.data())
def test_order_of_participants_changes_no_bit(
    name: str, stack: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(stack.shape[0])))
    assert_array_equal(rule(name)(stack[order]), rule(name)(stack))


@every_rule
@given(stack=stacks, data=st.data())
def test_classes_in_another_order_give_the_same_scores_in_that_order(
    name: str, stack: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(stack.shape[2])))
    assert_array_equal(rule(name)(stack[..., order]), rule(name)(stack)[:, order])


@every_rule
@given(stack=stacks, others=st.integers(0, 40))
def test_other_rows_of_the_stack_change_no_bit(name: str, stack: np.ndarray, others: int) -> None:
    k, rows, classes = stack.shape
    alone = np.concatenate([rule(name)(stack[:, r : r + 1]) for r in range(rows)])
    beside = on_the_simplex(np.random.default_rng(others).random((k, others, classes)))
    together = rule(name)(np.concatenate([beside, stack], axis=1))[others:]
    assert_array_equal(together, alone)


@every_rule
@given(stack=stacks)
def test_layout_in_memory_changes_no_bit(name: str, stack: np.ndarray) -> None:
    expected = rule(name)(stack)
    assert_array_equal(rule(name)(np.asfortranarray(stack)), expected)
    assert_array_equal(rule(name)(stack[..., ::-1])[..., ::-1], expected)


@every_rule
@given(
    stack=shapes.flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-1e6, 1e6, width=32))
    )
)
def test_noised_predictions_give_finite_scores(name: str, stack: np.ndarray) -> None:
    assert np.isfinite(rule(name)(stack)).all()


@given(stack=stacks)
def test_entropy_weight_is_between_a_guess_and_certainty(stack: np.ndarray) -> None:
    weights = entropy_weights(stack)
    assert (weights <= 1.0).all()
    assert (weights >= (1 - 1e-12) / stack.shape[2]).all()


def test_zero_probabilities_have_no_entropy() -> None:
    certain = np.array([[[0.0, 1.0, 0.0]], [[5e-324, 1.0, 0.0]]])
    assert_array_equal(entropy_weights(certain), [[1.0], [1.0]])


@pytest.mark.parametrize("parts", [3, 5, 6, 7, 9, 11])
def test_votes_split_in_any_fractions_still_tie_with_whole_ones(parts: int) -> None:
    """`parts` participants split between as many classes against one sure of class 0."""
    split = np.zeros((parts, 1, parts + 1))
    split[..., 1:] = 1 / parts
    sure = np.zeros((1, 1, parts + 1))
    sure[..., 0] = 1.0
    votes = hard(np.concatenate([sure, split]))
    assert_array_equal(votes, np.ones((1, parts + 1)))


def test_an_unknown_rule_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'entrpy': did you mean 'entropy'\?"):
        rule("entrpy")
    with pytest.raises(ConfigError, match="The rules are hard, soft, entropy"):
        rule("zzz")
