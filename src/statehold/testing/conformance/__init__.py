"""The contract of a driver in executable form, one module for each group of promises.

`DriverConformance` has every case; a driver's test subclasses it and says where its `backend` is (see
`statehold.testing`). The groups may be subclassed one by one while a driver is being written. What they are about:

    commits · lists · exactly_once     a commit is whole, and applied once, however late it is sent again
    conditions · together · decided    on conditions, over several states, as somebody else has decided
    lifetimes · instants               how a state ends, at which instant, and that the next one is another
    fences                             whoever was deposed stays so
    bounds · edges                     what is held and how much of it; what only luck would meet
    listing · listing_newest · listing_prefixes · listing_subjects     what listings serve
    whole_lives                        lives that are read whole and installed elsewhere
    sweeping                           what is cleared away where nobody writes any more
    failures · draining                what a driver says when it cannot, and how it comes to its end
    races · processes                  racing writers, killed writers, processes that begin and end
    face_commits · face_lives · face_listing · face_together · face_trouble
                                       the same promises through `AsyncStore` and through `Store`

What they share is in `base`, and in `face_cases`.
"""

from __future__ import annotations

from statehold.testing.conformance.base import Cases
from statehold.testing.conformance.bounds import Bounds
from statehold.testing.conformance.commits import Commits
from statehold.testing.conformance.conditions import Conditions
from statehold.testing.conformance.decided import Decided
from statehold.testing.conformance.draining import Draining, FaceDraining
from statehold.testing.conformance.edges import Edges
from statehold.testing.conformance.exactly_once import ExactlyOnce
from statehold.testing.conformance.face_commits import FaceCommits
from statehold.testing.conformance.face_listing import FaceListing
from statehold.testing.conformance.face_lives import FaceLives
from statehold.testing.conformance.face_together import FaceConditions, FaceTogether
from statehold.testing.conformance.face_trouble import FaceTrouble
from statehold.testing.conformance.failures import Failures
from statehold.testing.conformance.fences import FaceFences, Fences
from statehold.testing.conformance.instants import Instants
from statehold.testing.conformance.lifetimes import Lifetimes
from statehold.testing.conformance.listing import Listing
from statehold.testing.conformance.listing_newest import Newest
from statehold.testing.conformance.listing_prefixes import Prefixes
from statehold.testing.conformance.listing_subjects import Subjects
from statehold.testing.conformance.lists import FaceLists, Lists
from statehold.testing.conformance.processes import FaceProcesses, Processes
from statehold.testing.conformance.races import Races
from statehold.testing.conformance.sweeping import Sweeping
from statehold.testing.conformance.together import CommitsTogether
from statehold.testing.conformance.whole_lives import WholeLives

__all__ = [
    "Bounds",
    "Cases",
    "Commits",
    "CommitsTogether",
    "Conditions",
    "Decided",
    "Draining",
    "DriverConformance",
    "Edges",
    "ExactlyOnce",
    "FaceCommits",
    "FaceConditions",
    "FaceDraining",
    "FaceFences",
    "FaceListing",
    "FaceLists",
    "FaceLives",
    "FaceProcesses",
    "FaceTogether",
    "FaceTrouble",
    "Failures",
    "Fences",
    "Instants",
    "Lifetimes",
    "Listing",
    "Lists",
    "Newest",
    "Prefixes",
    "Processes",
    "Races",
    "Subjects",
    "Sweeping",
    "WholeLives",
]


class DriverLevel(
    Commits,
    Decided,
    ExactlyOnce,
    Lifetimes,
    Bounds,
    Lists,
    Listing,
    Prefixes,
    Newest,
    Subjects,
    Edges,
    Instants,
    Failures,
    Draining,
    Fences,
    Races,
    Processes,
    CommitsTogether,
    Conditions,
    WholeLives,
    Sweeping,
):
    """Every case that speaks to the driver itself."""


class DriverConformance(
    DriverLevel,
    FaceCommits,
    FaceLists,
    FaceLives,
    FaceListing,
    FaceFences,
    FaceTrouble,
    FaceDraining,
    FaceTogether,
    FaceConditions,
    FaceProcesses,
):
    """Every case: those that speak to the driver itself, and those through the async and the sync API."""
