"""Compression of what a token carries: deflate with a dictionary, and a bound on the way back.

Most tokens are small, and deflate learns only from what it has seen: a conversation's first
sentences cost almost as much as their text. The dictionary gives it something to begin with, common
English and the frame of chat messages. It was written by hand from everyday phrases, not taken from
any data. It belongs to the format: tokens are opened with the very same bytes, so a new one needs a
new flag.

zstd is in the standard library only from Python 3.14 on.
"""

from __future__ import annotations

import zlib
from typing import Final

PLAIN: Final = b"\x00"
DEFLATED: Final = b"\x01"

_WORTH_BYTES: Final = 48
"""Below this compression is not tried."""

_PHRASES: Final = (
    " yesterday tomorrow morning afternoon evening night Monday Tuesday Wednesday Thursday "
    "Friday Saturday Sunday January February March April June July August September October "
    "November December number address email phone password account balance transfer payment "
    "credit card bank bill charge refund return shipping delivery order size colour color "
    "small medium large black white blue green red cheap expensive price prices under over "
    "between dollars euros discount available availability restaurant hotel flight ticket "
    "tickets movie music song play event concert weather temperature appointment doctor "
    "dentist salon reservation reserve booking book table people person seats room rooms "
    "rent car bus train station airport city street address location located near nearby "
    "closest rating rated average stars review reviews service services product products "
    "item items model version file files code function error message data value values "
    "example question answer information details result results search find found show tell "
    "give help need want would could should must might think know understand explain "
    "describe compare suggest recommend summary summarize write create make build change "
    "update remove delete add start stop open close check confirm confirmed cancel continue "
    "next previous first second third last another different same other more less most least "
    "better best good great nice perfect awesome wonderful fine sorry unfortunately however "
    "because although instead therefore please thanks Thank you very much. Thank you so much "
    "for your help! You're welcome. Have a great day! Have a nice day. Goodbye! Bye. Hello, "
    "Hi, how are you? How can I help you today? How may I assist you? What can I do for you? "
    "Is there anything else I can help you with? Anything else? No, that's all. No, that "
    "will be all, thanks. That's all I need. Yes, please. Yes, that's right. Yes, that "
    "sounds good. Sounds good, Sounds great! That works for me. Okay, Ok, Sure, Sure thing. "
    "Alright, Of course! Got it. Great, Perfect! I'm sorry, I couldn't find any. I'm sorry, "
    "but I don't have that. Sorry, I am not able to I cannot I can't I don't know I would "
    "like to I'd like to I'd like a I want to I need to I need a I am looking for a I'm "
    "looking for Can you help me find Can you please Could you please tell me Can I get a Do "
    "you have any Do you want me to Do you know Are there any Is there a Is it What is the "
    "What's the What is their What time What kind of What about Which one Where is the When "
    "is it How many How much is it? How much does it cost? How about Would you like to Would "
    "you like me to Would you like a Would you prefer Please confirm the following: Please "
    "confirm: Let me check. Let me know if you have any other questions. I have found I "
    "found a few There are several There is a one It is It's a They have They are You can "
    "also You have Your total is Your order is Your reservation has been made. It has been "
    "Here are some Here is the list of This is a based on such as as well as according to at "
    "the end of the in the of the to the for the on the with the from the and the at the by "
    "the is the that the if you when you what you for you to you with your in your of your "
    "to be able to will be has been have been would be can be a lot of one of the some of "
    "the the number of in order to not only but also at least more than less than up to "
    "right now as soon as possible. "
    '"}{"role":"system","content":"{"role":"tool","content":"'
    '{"role":"assistant","content":"{"role":"user","content":"'
)
_DICTIONARY: Final = _PHRASES.encode()

# Copied for each use, which is quicker than reading the dictionary in again. A low level and fixed
# codes, since the data are small; a window of 8 KiB keeps the copy small.
_READY: Final = zlib.compressobj(2, zlib.DEFLATED, -13, 5, zlib.Z_FIXED, _DICTIONARY)


class Bomb(ValueError):
    """What was compressed is larger than allowed, or not what it should be. Internal."""


def squeeze(data: bytes, limit: int) -> bytes:
    """The data behind one byte that says how it is kept: deflated if that is smaller.

    What `expand` would refuse for its size is not made small.
    """
    if _WORTH_BYTES <= len(data) <= limit:
        deflate = _READY.copy()
        small = deflate.compress(data) + deflate.flush()
        if len(small) < len(data):
            return DEFLATED + small
    return PLAIN + data


def expand(data: bytes, limit: int) -> bytes:
    """What was squeezed. Raises `Bomb` beyond `limit` bytes, having made no more than those."""
    how, body = data[:1], data[1:]
    if how == PLAIN:
        if len(body) > limit:
            raise Bomb
        return body
    if how != DEFLATED:
        raise Bomb
    inflate = zlib.decompressobj(-13, _DICTIONARY)
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error:
        raise Bomb from None
    if len(plain) > limit or not inflate.eof or inflate.unused_data:
        raise Bomb
    return plain
