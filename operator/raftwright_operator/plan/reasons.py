"""The words that say why something waits or is wrong: `reason` of a Wait, a Concern, and so of conditions and events.

The rules use them, `status` reads them. Rule: a word keeps its meaning for good, since people write alerts on it.
"""

# Of waiting: nothing is wrong.
PAUSED = "Paused"
DELETING = "Deleting"
CREATING = "Creating"
FOUNDING = "Founding"
ADOPTING = "Adopting"
HIBERNATING = "Hibernating"
WAKING = "Waking"
MEMBERSHIP_CHANGING = "MembershipChanging"
SCALING_UP = "ScalingUp"
CATCHING_UP = "CatchingUp"
SCALING_DOWN = "ScalingDown"
REPLACING_MEMBER = "ReplacingMember"
ROLLING_OUT = "RollingOut"
VOLUMES_GROWING = "VolumesGrowing"
POD_NOT_BACK = "PodNotBack"

# Of what is wrong: each also is a Concern.
DIFFERENT_CLUSTERS = "DifferentClusters"
FOUNDING_LOST = "FoundingLost"
NO_LEADER = "NoLeader"
QUORUM_LOST = "QuorumLost"
VOTERS_DOWN = "VotersDown"
NON_VOTING_DOWN = "NonVotingDown"
VOLUME_LOST = "VolumeLost"
VOLUME_GOING = "VolumeGoing"
VOLUME_NOT_ENLARGED = "VolumeNotEnlarged"
FOREIGN_STORE = "ForeignStore"
STATE_DIVERGED = "StateDiverged"
SCALE_DOWN_BLOCKED = "ScaleDownBlocked"
ROLLOUT_STUCK = "RolloutStuck"
NAME_TAKEN = "NameTaken"
CHANGED_BY_OTHERS = "ChangedByOthers"

# For people to know: events only.
EVEN_VOTERS = "EvenVoters"
FOREIGN_MEMBERS = "ForeignMembers"

REASONS: dict[str, str] = {
    PAUSED: "`spec.paused` is set: nothing is touched",
    DELETING: "the resource is being deleted, and its objects go first",
    CREATING: "objects are being made, or an old StatefulSet has to go first",
    FOUNDING: "a new cluster waits for its first pods, or for its first leader",
    ADOPTING: "volumes of a cluster that existed were found, and not all of its nodes answer yet",
    HIBERNATING: "scaled to nothing: pods stop, members and volumes stay",
    WAKING: "back from hibernation: the same members start first",
    MEMBERSHIP_CHANGING: "a joint change is under way",
    SCALING_UP: "new members are awaited; the old voters go on as they are",
    CATCHING_UP: "members receive what they lack",
    SCALING_DOWN: "members leave, or their pods stop",
    REPLACING_MEMBER: "a member whose volume was lost gives its place to the new store",
    ROLLING_OUT: "pods are restarted one by one",
    VOLUMES_GROWING: "larger volumes were asked for, and the storage system has not made them so yet",
    POD_NOT_BACK: "a pod is not there, or does not serve yet; Kubernetes restarts it",
    DIFFERENT_CLUSTERS: "the volumes belong to more than one cluster: nobody but a person can say which is meant",
    FOUNDING_LOST: "too many volumes went before the new cluster was seen to exist: it is not founded twice",
    NO_LEADER: "no leader that a quorum confirms; enough members may come back",
    QUORUM_LOST: "too many members lost their volumes for a quorum ever to come back by itself",
    VOTERS_DOWN: "voters do not serve; a quorum does",
    NON_VOTING_DOWN: "non-voting members do not serve",
    VOLUME_LOST: "a member's volume was lost",
    VOLUME_GOING: "a member's claim is being deleted, and goes when its pod stops",
    VOLUME_NOT_ENLARGED: "larger volumes were asked for, and the API server refuses to enlarge a claim",
    FOREIGN_STORE: "a pod's volume belongs to another cluster, and is not touched",
    STATE_DIVERGED: "a member's state is not that of the majority",
    SCALE_DOWN_BLOCKED: "without the members that were to go, no quorum of live voters would be left",
    ROLLOUT_STUCK: "a pod did not come back, so no other one is restarted",
    NAME_TAKEN: "an object of a name that the cluster needs is there, and is not the operator's: it is left alone",
    CHANGED_BY_OTHERS: "something changes objects back whenever they are applied: they are left so for some minutes",
    EVEN_VOTERS: "an even number of voters tolerates no more failures than one voter fewer",
    FOREIGN_MEMBERS: "there are members that are none of the cluster's pods; they count, and are left alone",
}
