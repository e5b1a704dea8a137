"""Invents people with names as they are met: a few common ones, many rare ones, Latin and Korean."""

import random
import uuid
from typing import Final

from server.models import User, now


def words(text: str) -> list[str]:
    return text.split()


FIRST: Final = words(
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph "
    "Jessica Thomas Sarah Charles Karen Christopher Lisa Daniel Nancy Matthew Betty Anthony Sandra Mark Margaret "
    "Jürgen Chloé Søren Łukasz Nguyễn Aisha Mohammed Priya Olga Дмитрий Ελένη Fatima Hans Ingrid Pedro Lucía Yusuf"
)
LAST: Final = words(
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson "
    "Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson "
    "Walker Young Allen King Wright Scott Torres Hill O'Brien Müller Nowak García-Márquez Иванов Παπαδόπουλος Tran Khan"
)
# Shares per thousand, as the Korean census has them, roughly.
KOREAN_LAST: Final = {
    "김": 215, "이": 147, "박": 84, "최": 47, "정": 43, "강": 24, "조": 21, "윤": 21, "장": 20, "임": 17, "한": 15,
    "오": 15, "서": 15, "신": 15, "권": 14, "황": 14, "안": 14, "송": 14, "유": 13, "전": 11, "홍": 11, "고": 9,
    "문": 9, "양": 9, "손": 9, "배": 8, "백": 8, "허": 7, "남": 6, "심": 5, "노": 5, "남궁": 1, "황보": 1,
}  # fmt: skip
SYLLABLES: Final = list("민서지현준우하은도윤수예진영재성호경태유나아연승훈동규혜원정미선희주상철광용석기현빈찬율")
ROMAN: Final = words("minjun seoyeon jiwoo hyunwoo doyun yejin youngho sujin jaehyun hana kyung taemin")
HOSTS: Final = {
    "gmail.com": 55,
    "naver.com": 20,
    "hanmail.net": 8,
    "example.com": 7,
    "kakao.com": 6,
    "company.co.kr": 4,
}
KOREAN_SHARE: Final = 0.4


def person(random_source: random.Random, number: int) -> User:
    """One person; `number` makes the email unique."""
    host = random_source.choices(list(HOSTS), list(HOSTS.values()))[0]
    if random_source.random() < KOREAN_SHARE:
        last = random_source.choices(list(KOREAN_LAST), list(KOREAN_LAST.values()))[0]
        first = random_source.choice(SYLLABLES) + random_source.choice(SYLLABLES)
        box, phone = f"{random_source.choice(ROMAN)}{number}", f"+8210{random_source.randrange(10**8):08d}"
    else:
        # The square makes the first of the list the most common.
        first = FIRST[int(len(FIRST) * random_source.random() ** 2)]
        last = LAST[int(len(LAST) * random_source.random() ** 2)]
        box = f"{first}.{last}{number}".lower().replace("'", "")
        phone = f"+1 {random_source.randrange(200, 1000)}-{random_source.randrange(10**7):07d}"
    return User(
        id=uuid.UUID(int=random_source.getrandbits(128)).hex,
        email=f"{box}@{host}",
        first_name=first,
        last_name=last,
        phone=phone,
        created_at=now(),
    )
