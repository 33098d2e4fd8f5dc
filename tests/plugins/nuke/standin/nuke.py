"""A stand-in for the host: as much of Nuke as the plug-in calls, in standard Python 3.7 syntax.

`KNOBS` is the little truth that we rely on: name, type and default of the knobs that the plug-in reads or writes, as
a real Nuke 17.0v3 has them; a test compares it with the recorded knob lists. What a call did is kept in plain lists
(`said`, `shown`, `on_script_load`, `on_create`, `before_render`), so that a test can look.
"""

# mypy: ignore-errors
# ruff: noqa: A002, ANN001, ANN201, ANN202, ANN204, B905, EM103, FBT002, N801, N802, N803, N816, UP004, UP032
# It runs under every Python that Nuke embeds, so it is written like theirs.

NUKE_VERSION_STRING = "15.1v3"
NUKE_VERSION_MAJOR = 15
NUKE_VERSION_MINOR = 1
GUI = False
rawArgs = ["/usr/local/Nuke15.1v3/Nuke15.1", "-t", "--gpu"]

KNOBS = {
    "Inference": {
        "modelFile": ("File_Knob", ""),
        "useGPUIfAvailable": ("Boolean_Knob", True),
        "halfPrecision": ("Boolean_Knob", False),
        "tileSize": ("Enumeration_Knob", "None"),
        "tileOverlap": ("Array_Knob", 64.0),
        "gpuName": ("Text_Knob", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        "name": ("String_Knob", "Inference1"),
        "label": ("Multiline_Eval_String_Knob", ""),
    },
    "Read": {
        "file": ("File_Knob", ""),
        "raw": ("Boolean_Knob", False),
        "name": ("String_Knob", "Read1"),
        "label": ("Multiline_Eval_String_Knob", ""),
    },
    "Write": {
        "file": ("File_Knob", ""),
        "file_type": ("Enumeration_Knob", " "),
        "channels": ("ChannelMask_Knob", "rgb"),
        "raw": ("Boolean_Knob", False),
        "name": ("String_Knob", "Write1"),
        "label": ("Multiline_Eval_String_Knob", ""),
    },
    "NoOp": {"name": ("String_Knob", "NoOp1"), "label": ("Multiline_Eval_String_Knob", "")},
    "Group": {"name": ("String_Knob", "Group1"), "label": ("Multiline_Eval_String_Knob", "")},
}

said = []
shown = []
on_script_load = []
on_create = []
before_render = []
_path = []
_nodes = []
_menus = {}
_this = []


class Knob(object):
    def __init__(self, name, label="", value="", kind="String_Knob"):
        self._name, self._value, self.label, self.kind = name, value, label, kind
        self.locked = False

    def name(self):
        return self._name

    def value(self):
        return self._value

    def setValue(self, value):
        if not self.locked:
            self._value = value
        return not self.locked


class String_Knob(Knob):
    pass


class Tab_Knob(Knob):
    pass


class Gsv_Knob(Knob):
    """Scope-local values by path, such as ``__default__.shot``; what is not set here is None."""

    def getGsvValue(self, path):
        return (self._value or {}).get(path)


class Node(object):
    def __init__(self, kind, parent=None):
        self.kind, self._parent, self.inputs, self._knobs = kind, parent, [], {}
        for name, (knob_kind, default) in KNOBS.get(kind, {}).items():
            self._knobs[name] = Knob(name, "", default, knob_kind)

    def __getitem__(self, name):
        if name not in self._knobs:
            raise NameError("knob {} does not exist".format(name))
        return self._knobs[name]

    def knob(self, name):
        return self._knobs.get(name)

    def addKnob(self, knob):
        self._knobs[knob.name()] = knob

    def name(self):
        return self["name"].value()

    def fullName(self):
        above = self._parent
        return self.name() if above is None or above is _root else above.fullName() + "." + self.name()

    def Class(self):
        return self.kind

    def parent(self):
        return self._parent

    def dependencies(self):
        return list(self.inputs)

    def setInput(self, i, node):
        self.inputs[i:] = [node]
        return True


class Menu(object):
    def __init__(self, name):
        self._name, self.items = name, {}

    def addCommand(self, name, command):
        self.items[name] = command
        return command

    def addMenu(self, name):
        return self.items.setdefault(name, Menu(name))


def _make_root():
    node = Node("Root")
    node.addKnob(Knob("name", "", "Root"))
    return node


_root = _make_root()


def root():
    return _root


def createNode(node, knobs="", inpanel=True, parent=None, values=None):
    made = Node(node, parent or _root)
    number = 1 + sum(1 for other in _nodes if other.kind == node)
    made["name"].setValue("{}{}".format(node, number))
    for name, value in (values or {}).items():
        made[name].setValue(value)
    _nodes.append(made)
    _this.append(made)
    for call, kind in on_create:
        if kind in ("*", node):
            call()
    _this.pop()
    return made


def nodePaste(text):
    """Paste one node from script text: a class, braces, and words that alternate between knob and value."""
    words = text.replace("{", " { ").replace("}", " } ").split()
    kind, body = words[0], words[2:-1]
    if words[1] != "{" or words[-1] != "}" or len(body) % 2:
        raise RuntimeError("cannot read: {}".format(text))
    return createNode(kind, values=dict(zip(body[::2], body[1::2])))


def allNodes(filter=None, group=None, recurseGroups=False):
    return [node for node in _nodes if (filter in (None, node.kind)) and (recurseGroups or node.parent() is _root)]


def selectedNodes():
    return [node for node in _nodes if getattr(node, "chosen", False)]


def thisNode():
    return _this[-1]


def pluginPath():
    return list(_path)


def pluginAddPath(path, addToSysPath=True):
    _path.insert(0, path)


def addOnScriptLoad(call):
    on_script_load.append(call)


def addOnCreate(call, args=(), nodeClass="*"):
    on_create.append((call, nodeClass))


def addBeforeRender(call, args=(), kwargs=None, nodeClass="Write"):
    before_render.append((call, nodeClass))


def render(node):
    """What `execute` does first: the callbacks of the node's class and of every class; what one raises stops it."""
    _this.append(node)
    try:
        for call, kind in before_render:
            if kind in ("*", node.kind):
                call()
    finally:
        _this.pop()


def menu(name):
    return _menus.setdefault(name, Menu(name))


def execute(node, start, end):
    """The stand-in runs no nodes; the executable that stands in for Nuke puts its own way here."""
    raise RuntimeError("nothing to run {} {} {}".format(node.name(), start, end))


def message(prompt):
    shown.append(prompt)


def tprint(text):
    said.append(text)
