"""What happens then: worlds that move in time.

The inventory world is one simulator for items and networks: `Network` says who supplies whom, `World` what else is fixed, and `rollout` plays a policy
against futures.
"""

from dpsc.simulate.events import expire, fill, order, put, receive, serve, take
from dpsc.simulate.network import Edge, Network
from dpsc.simulate.perishing import newest_first, oldest_first
from dpsc.simulate.rationing import ByPriority, proportional
from dpsc.simulate.rollout import Rollout, rollout
from dpsc.simulate.world import Action, Event, Flow, Noise, Now, Order, State, World, advance, start

__all__ = [
    "Action",
    "ByPriority",
    "Edge",
    "Event",
    "Flow",
    "Network",
    "Noise",
    "Now",
    "Order",
    "Rollout",
    "State",
    "World",
    "advance",
    "expire",
    "fill",
    "newest_first",
    "oldest_first",
    "order",
    "proportional",
    "put",
    "receive",
    "rollout",
    "serve",
    "start",
    "take",
]
