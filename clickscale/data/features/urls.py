"""Parts of URLs: nearly every row has a URL of its own, and many share a host or a section of a site."""

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.schema import UrlPart

_FORM = (
    r"^(?:(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//)?(?:[^/?#@]*@)?(?P<host>[^/?#:]*)(?::[0-9]*)?"
    r"(?P<section>(?:/[^/?#]+)?)"
)


def url_parts(texts: pa.Array, part: UrlPart) -> pa.Array:
    """Take a part out of URLs, null where there is none; a part of this kind stays as it is.

    Args:
        part: ``host``, in lower case and without ``www.``, or ``section``, the first step of the path with
            its slash: ``/news`` of ``https://example.com/news/today?id=7``.
    """
    found = pc.struct_field(pc.extract_regex(pc.utf8_trim_whitespace(texts), _FORM), part)
    if part == "host":
        found = pc.replace_substring_regex(pc.utf8_lower(found), r"^www\.", "")
    return pc.if_else(pc.equal(found, ""), None, found)
