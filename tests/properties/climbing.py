"""A body that refuses everything, in plain code: what the ladder prescribes for it."""

from calloff._words.ladder import Climb, Step, next_step

START = 1000.0


def climb_all(policy, grace, requests=(), insists=True, late=0.0):
    """Refuse everything: each step with the point at which it was due and the one at which it was taken.

    `requests` are further ones, in order: seconds after the first, and the grace that goes with it.
    """
    steps = []
    now = START
    climb = Climb(START, START + grace)
    left = list(requests)
    while True:
        due = next_step(policy, climb, insists=insists)
        if left and START + left[0][0] < due.at:
            after, again = left.pop(0)
            now = max(now, START + after)
            climb = climb.hastened(now + again)
            continue
        now = max(now, due.at) + late
        steps.append((due.step, due.at, now))
        if due.step is Step.ABANDON:
            return steps
        climb = climb.forced(now) if due.step is Step.FORCE else climb.asked_again(now)
