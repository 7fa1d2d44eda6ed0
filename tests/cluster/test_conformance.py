"""The agents of this machine pass the suite that every place passes."""

from cluster.places import OnCluster

import calloff.cluster


class TestLocal(OnCluster):
    @classmethod
    def made(cls) -> calloff.cluster.Cluster:
        return calloff.cluster.local(2, slots=8)
