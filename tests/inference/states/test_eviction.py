import random

from clickscale.inference.states.eviction import Sieve


def filled(names: str) -> Sieve:
    queue = Sieve()
    for name in names:
        queue.insert(name.encode())
    return queue


def evicted(queue: Sieve, count: int) -> str:
    gone = ""
    for _ in range(count):
        gone += queue.victim().decode()
        queue.remove(queue.victim())
    return gone


def test_keys_that_nobody_asks_for_go_in_the_order_they_came() -> None:
    queue = filled("abc")
    assert evicted(queue, 3) == "abc"
    assert len(queue) == 0


def test_a_key_that_was_asked_for_is_spared_once() -> None:
    queue = filled("abcde")
    queue.touch(b"a")
    queue.touch(b"c")
    assert evicted(queue, 3) == "bde"  # past a, then past c
    assert evicted(queue, 2) == "ac"  # the hand begins anew at the oldest


def test_the_hand_stays_where_it_was() -> None:
    queue = filled("abcd")
    queue.touch(b"a")
    assert evicted(queue, 1) == "b"
    queue.insert(b"e")
    queue.touch(b"d")
    assert evicted(queue, 2) == "ce"  # c is next to the hand, d is spared


def test_a_queue_of_visited_keys_gives_up_the_oldest() -> None:
    queue = Sieve()
    for name in (b"a", b"b"):
        queue.insert(name, visited=True)
    assert queue.victim() == b"a"


def test_a_victim_stays_until_it_is_removed_and_any_key_may_be_removed() -> None:
    queue = filled("abc")
    assert queue.victim() == queue.victim() == b"a"
    queue.remove(b"b")
    queue.remove(b"a")  # the hand stood on it
    assert queue.victim() == b"c"
    queue.remove(b"c")
    queue.insert(b"d")
    assert queue.victim() == b"d"


def test_the_queue_does_what_the_algorithm_on_a_plain_list_does() -> None:
    chance, queue, plain, hand = random.Random(0), Sieve(), list[list[object]](), 0  # oldest first
    for step in range(3_000):
        action = chance.random()
        if action < 0.4 or not plain:
            key = str(step).encode()
            queue.insert(key)
            plain.append([key, False])
        elif action < 0.7:
            entry = chance.choice(plain)
            entry[1] = True
            queue.touch(entry[0])  # type: ignore[arg-type]
        elif action < 0.8:
            place = chance.randrange(len(plain))
            queue.remove(plain.pop(place)[0])  # type: ignore[arg-type]
            hand -= place < hand
        else:
            while plain[hand][1]:
                plain[hand][1] = False
                hand = (hand + 1) % len(plain)
            assert queue.victim() == plain[hand][0]
            queue.remove(queue.victim())
            plain.pop(hand)
        hand = hand if hand < len(plain) else 0
    assert len(queue) == len(plain)
