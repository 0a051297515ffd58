"""A detector of one's own: hosts that ask many different servers at one port."""

from flows.detect.detectors.spread import About, FieldList, Severity, SpreadDetector, Task


class ManyResolvers(SpreadDetector):
    """With ``where: {dst_port: 53}`` in the settings: who asks many resolvers."""

    about = About("many_resolvers", "{src_addr} asks many", "servers", "hosts", Severity.low)
    key, element = FieldList(("src_addr", "dst_port")), FieldList(("dst_addr",))
    task = Task("_many_resolvers", "spread", key, element, where="initiated")

    def told(self, entity, row):
        return f"{entity['src_addr']} asked {row.estimate:.0f} at port {entity['dst_port']}"
