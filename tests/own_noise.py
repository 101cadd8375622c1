"""Mechanisms as a participant writes its own: the one of docs/privacy.md, and some with a fault."""

from __future__ import annotations

from shown import shown

_FAULTS = '''

class Halved(Laplace):
    """Half of the noise."""

    def __init__(self, epsilon, classes):
        super().__init__(2 * epsilon, classes)
        self.cost = Charge.at_least(Unit.NANO_EPSILON, epsilon)


class Floats(Laplace):
    def release(self, probabilities):
        noised = super().release(probabilities)
        return Released(self.form, noised.values / STEPS, STEPS)


class Free(Laplace):
    cost = property(lambda self: None, lambda self, cost: None)


class Zero(Laplace):
    cost = property(lambda self: Charge(Unit.NANO_EPSILON, 0), lambda self, cost: None)


class InPlace(Laplace):
    def release(self, probabilities):
        probabilities *= 0.5
        return super().release(probabilities)


class Twice(Laplace):
    """Keeps its noise: the same in each call."""

    def release(self, probabilities):
        rows = len(probabilities)
        drawn = self.__dict__.setdefault("drawn", {})
        if rows not in drawn:
            drawn[rows] = super().release(np.zeros_like(probabilities)).values
        return Released(self.form, np.rint(probabilities * STEPS).astype(int) + drawn[rows], STEPS)


class Seeded(Laplace):
    """Fresh noise for each answer, and the same again after a restart."""

    def __init__(self, epsilon, classes):
        super().__init__(epsilon, classes)
        self._drawn = np.random.default_rng(17)
        self._scale = (2 * STEPS + classes) / epsilon

    def release(self, probabilities):
        # Not of OpenDP, but as much of it as is due, in floats first: only for this test.
        noise = np.rint(self._drawn.laplace(0, 1.2 * self._scale, probabilities.shape))
        values = np.floor(probabilities * STEPS + 0.5) + noise
        return Released(self.form, values.astype(np.int64), STEPS)


class Telling(Laplace):
    """Its scale depends on how sure the prediction is."""

    def release(self, probabilities):
        steps = STEPS + int(10 * probabilities.max())
        return Released(self.form, super().release(probabilities).values, steps)


class Flat(Laplace):
    def release(self, probabilities):
        return Released(self.form, super().release(probabilities).values.ravel(), STEPS)


class Cheap(Laplace):
    """Says half of what it charges."""

    def declare(self, rows, total):
        said = super().declare(rows, total)
        return said.model_copy(update={"epsilon": said.epsilon / 2})


class OtherUnit(Laplace):
    def limit(self, epsilon):
        return Charge.at_most(Unit.NANO_RHO, epsilon)


class Named(Laplace):
    def declare(self, rows, total):
        return super().declare(rows, total).model_copy(update={"mechanism": "gaussian"})


class Later(Laplace):
    """Fails on a query of 7 rows, and gives floats on one of 9."""

    def release(self, probabilities):
        if len(probabilities) == 7:
            raise RuntimeError("seven")
        noised = super().release(probabilities)
        if len(probabilities) == 9:
            return Released(self.form, noised.values / STEPS, STEPS)
        return noised


def fails(epsilon, delta, classes, form):
    raise RuntimeError("not today")


def dear(epsilon, delta, classes, form):
    return Laplace(2 * epsilon, classes)


for _kind in list(globals().values()):
    if isinstance(_kind, type) and issubclass(_kind, Laplace) and _kind is not Laplace:
        globals()[_kind.__name__.lower()] = (
            lambda epsilon, delta, classes, form, kind=_kind: kind(epsilon, classes)
        )
'''


def source() -> str:
    """The text of a module that has `laplace`, which is honest, and one callable for each fault."""
    return shown("privacy.md", "A mechanism of your own") + _FAULTS
