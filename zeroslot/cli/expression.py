"""Expressions over the fields of a sample, for `echo` and `plot`: `norm(accel) > 12 and not moving`.

Why not Python's own eval: a command line is often built by a script from text of others, and eval runs any code. Here
the text is parsed, each part is looked up in a list of what is allowed, and functions of this module compute it. There
is no attribute but fields and the few facts in FACTS, no call but FUNCTIONS, and no operation whose result can be much
larger than its operands.

What has no value is None: an optional that is absent, an item behind the end of a list, a division by zero. None goes
through arithmetic, is equal to nothing but None, and a comparison of order with it is false.
"""

from __future__ import annotations

import ast
import enum
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import zeroslot as zs
from zeroslot.cli import CommandError

Compute = Callable[[Any], Any]

TEXT_LIMIT = 1000
DEPTH_LIMIT = 40
WHOLE = "data"  # what a sample of np.ndarray or bytes is called
FACTS = {"shape", "size", "ndim"}  # of arrays
ALLOWED = "Allowed are fields, numbers, texts, comparisons, arithmetic, and, or, not, [index] and the functions"


class ExpressionError(CommandError):
    """An expression that is not allowed, or makes no sense for a sample."""


def _of_array(name: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    def compute(*values: Any) -> Any:
        if len(values) == 1 and values[0] is None:
            return None
        array = np.asarray(values[0] if len(values) == 1 else values)
        if array.dtype.kind not in ("biufcmM" if function in (np.max, np.min) else "biufcm"):
            raise ExpressionError(f"{name} is of numbers, and not of {_kind_of(array)}")
        return None if array.size == 0 and function is not np.sum else function(array)

    return compute


def _length(value: Any) -> int | None:
    if value is None:
        return None
    if not hasattr(value, "__len__"):
        raise ExpressionError(f"{_kind_of(value)} has no length")
    return len(value)


ONE_ARGUMENT = ("abs", "all", "any", "len")  # the others take several numbers as well
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda value: None if value is None else abs(_number(value)),
    "all": lambda value: bool(np.all(value)),
    "any": lambda value: bool(np.any(value)),
    "len": _length,
    "max": _of_array("max", np.max),
    "mean": _of_array("mean", np.mean),
    "min": _of_array("min", np.min),
    "norm": _of_array("norm", lambda array: np.sqrt(np.sum(np.square(array, dtype=np.float64)))),
    "sum": _of_array("sum", np.sum),
}


def _power(one: Any, other: Any) -> Any:
    """As a float where both are numbers: a power of large integers would take for ever."""
    return (float(one) if isinstance(one, int) else one) ** (float(other) if isinstance(other, int) else other)


def _shift(shift: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(one: Any, other: Any) -> Any:
        if not np.all((np.asarray(other) >= 0) & (np.asarray(other) < 64)):
            raise ExpressionError("a shift is by 0 to 63 bits")
        return shift(one, other)

    return compute


ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: _shift(operator.lshift),
    ast.RShift: _shift(operator.rshift),
}
SIGNS: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
ORDER: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EQUALITY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}


class Expression:
    """A compiled expression. Call it with a sample. `names`: the fields that it begins with.

    Raises ExpressionError for what is not allowed.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, None] = {}
        self._known: dict[type, frozenset[str]] = {}
        if len(text) > TEXT_LIMIT:
            raise ExpressionError(f"it has more than {TEXT_LIMIT} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as an unknown escape in a text
                tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ExpressionError(f"{text!r} is no expression: {reason}") from None
        self._compute = self._compiled(tree.body, 0)

    def __call__(self, sample: Any) -> Any:
        """Its value for a sample; None where it has none. Raises ExpressionError where it makes no sense."""
        try:
            with np.errstate(all="ignore"):
                return self._compute(sample)
        except (IndexError, ZeroDivisionError, OverflowError):
            return None
        except ExpressionError as error:
            raise ExpressionError(f"{self.text}: {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ExpressionError(f"{self.text}: {error}") from None
        except MemoryError:
            raise ExpressionError(f"{self.text}: the result is too large") from None

    def holds(self, sample: Any) -> bool:
        """Whether it is true of a sample. Raises ExpressionError, also where its value is an array."""
        value = self(sample)
        if isinstance(value, np.ndarray) and value.size != 1:
            raise ExpressionError(f"{self.text}: this is an array. Write any({self.text}) or all({self.text})")
        return bool(value)

    # --- compiling

    def _compiled(self, node: ast.AST, depth: int) -> Compute:
        if depth > DEPTH_LIMIT:
            raise ExpressionError(f"it is nested more than {DEPTH_LIMIT} deep")

        def inner(part: ast.AST) -> Compute:
            return self._compiled(part, depth + 1)

        match node:
            case ast.Constant(value=bool() | int() | float() | str() | bytes() | None as value):
                return lambda _: value
            case ast.Name(id=name):
                self.names[name] = None
                return lambda sample: self._root(sample, name)
            case ast.Attribute(value=of, attr=name):
                if name.startswith("__"):
                    raise _not_allowed(node)
                owner = inner(of)
                return lambda sample: self._member(owner(sample), name)
            case ast.Subscript(value=of, slice=index):
                owner, at = inner(of), self._index(index, depth)
                return lambda sample: _item(owner(sample), at(sample))
            case ast.UnaryOp(op=ast.Not(), operand=of):
                value_of = inner(of)
                return lambda sample: not _truth(value_of(sample))
            case ast.UnaryOp(op=op, operand=of) if type(op) in SIGNS:
                sign, value_of = SIGNS[type(op)], inner(of)
                return lambda sample: _arithmetic(sign, value_of(sample))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                function, one, other = ARITHMETIC[type(op)], inner(left), inner(right)
                return lambda sample: _arithmetic(function, one(sample), other(sample))
            case ast.BoolOp(op=op, values=values):
                parts = [inner(value) for value in values]
                if isinstance(op, ast.And):
                    return lambda sample: all(_truth(part(sample)) for part in parts)
                return lambda sample: any(_truth(part(sample)) for part in parts)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._comparison([type(op) for op in ops], [inner(each) for each in (left, *others)])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                if not arguments or (len(arguments) > 1 and name in ONE_ARGUMENT):
                    few = "one argument" if name in ONE_ARGUMENT else "an argument, or several"
                    raise ExpressionError(f"{name} has {few}, such as {name}({'speed' if name == 'abs' else 'accel'})")
                function, values_of = FUNCTIONS[name], [inner(argument) for argument in arguments]
                return lambda sample: function(*[value_of(sample) for value_of in values_of])
            case ast.List(elts=items) | ast.Tuple(elts=items):
                values_of = [inner(item) for item in items]
                return lambda sample: [value_of(sample) for value_of in values_of]
        raise _not_allowed(node)

    def _index(self, node: ast.AST, depth: int) -> Compute:
        """What stands in brackets: a number, a name of a record, a slice, or several of these."""
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                ends = [None if end is None else self._compiled(end, depth + 1) for end in (lower, upper, step)]
                return lambda sample: slice(*[None if end is None else end(sample) for end in ends])
            case ast.Tuple(elts=items):
                parts = [self._index(item, depth + 1) for item in items]
                return lambda sample: tuple(part(sample) for part in parts)
        return self._compiled(node, depth + 1)

    def _comparison(self, ops: Sequence[type], values_of: Sequence[Compute]) -> Compute:
        pairs = list(zip(values_of[:-1], ops, values_of[1:], strict=True))
        if len(pairs) == 1:
            ((one, op, other),) = pairs
            return lambda sample: _compare(op, one(sample), other(sample))
        return lambda sample: all(_truth(_compare(op, one(sample), other(sample))) for one, op, other in pairs)

    # --- fields

    def _root(self, sample: Any, name: str) -> Any:
        if isinstance(sample, (np.ndarray, bytes, memoryview)):
            if name != WHOLE:
                raise ExpressionError(f"there is no field {name!r}. A sample is one array or bytes, called {WHOLE!r}")
            return sample
        return self._member(sample, name)

    def _member(self, owner: Any, name: str) -> Any:
        if owner is None:
            return None
        if isinstance(owner, (zs.View, zs.Sample)):
            known = self._known.get(type(owner))
            if known is None:
                fields: Any = owner  # a view iterates as the model does
                known = self._known[type(owner)] = frozenset(each for each, _ in fields)
            if name in known:
                return getattr(owner, name)
            raise ExpressionError(f"there is no field {name!r}. There are {', '.join(sorted(known))}")
        if isinstance(owner, (np.ndarray, np.void)) and name in (owner.dtype.names or ()):
            return owner[name]
        if isinstance(owner, np.ndarray) and name in FACTS:
            return getattr(owner, name)
        if isinstance(owner, enum.Enum) and name in {"name", "value"}:
            return getattr(owner, name)
        raise ExpressionError(f"there is no field {name!r} in {type(owner).__name__}")


def _not_allowed(node: ast.AST) -> ExpressionError:
    return ExpressionError(f"{ast.unparse(node)!r} is not allowed. {ALLOWED} {', '.join(FUNCTIONS)}")


def _number(value: Any) -> Any:
    """A value for arithmetic. Raises ExpressionError for texts and the like, whose `*` could fill the memory."""
    if isinstance(value, (bool, int, float, np.number, np.bool_, np.ndarray)):
        return value
    if isinstance(value, list) or hasattr(value, "__array__"):
        return np.asarray(value)
    raise ExpressionError(f"no arithmetic with {type(value).__name__}")


def _arithmetic(function: Callable[..., Any], *values: Any) -> Any:
    if any(value is None for value in values):
        return None
    return function(*map(_number, values))


def _truth(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.size != 1:
        raise ExpressionError("an array is neither true nor false. Write any(…) or all(…)")
    return bool(value)


def _item(owner: Any, index: Any) -> Any:
    if owner is None or index is None:
        return None
    if isinstance(owner, np.ndarray):
        _check_index(index)
    if isinstance(index, str) and not isinstance(owner, (np.ndarray, np.void)):
        raise ExpressionError(f"there is no item {index!r}")
    return owner[index]


def _in_order(op: type, one: Any, other: Any) -> Any:
    """Times are compared with times, or with texts: `stamps[0] > '2030-01-01'`."""
    one, other = _as_time(one, other), _as_time(other, one)
    try:
        return ORDER[op](one, other)
    except TypeError:
        raise ExpressionError(f"{_kind_of(one)} and {_kind_of(other)} have no order") from None


def _as_time(value: Any, other: Any) -> Any:
    is_time = isinstance(other, (np.generic, np.ndarray)) and other.dtype.kind == "M"
    return np.datetime64(value) if is_time and isinstance(value, str) else value


def _kind_of(value: Any) -> str:
    if isinstance(value, (np.generic, np.ndarray)):
        return "text" if value.dtype.kind == "U" else str(value.dtype)
    return type(value).__name__


def _check_index(index: Any) -> None:
    """An array of numbers as an index, or a new axis, makes an array that can be much larger than both."""
    for part in index if isinstance(index, tuple) else (index,):
        if part is None or (isinstance(part, np.ndarray) and part.ndim and part.dtype != np.bool_):
            raise ExpressionError("an index is a number, a slice, a list of numbers or a condition")
        if isinstance(part, list) and any(np.ndim(each) for each in part):
            raise ExpressionError("a list as an index has numbers alone")


def _compare(op: type, one: Any, other: Any) -> Any:
    if op in ORDER:
        return False if one is None or other is None else _in_order(op, one, other)
    if op in EQUALITY:
        if isinstance(one, str) and isinstance(other, enum.Enum):
            one, other = other, one
        if isinstance(one, enum.Enum) and isinstance(other, str):
            return EQUALITY[op](one.name, other)
        return EQUALITY[op](one, other)
    if other is None:
        return False
    names = isinstance(one, enum.Enum) and isinstance(other, list) and one.name in other
    return (names or one in other) is (op is ast.In)
