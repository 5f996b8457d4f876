"""How plausible bytes are as text in the encodings that came before Unicode.

A model gives each character of an encoding a logarithm of its probability: the letters that a language uses most, the
rest of its ordinary letters, and everything else. The lists are short on purpose: labels are a few common words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from math import log

_HANZI = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点"
    "正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿"
    "原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资"
    "命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万"
    "取拉格望觉术领共确传师观清今切院让识候带导争运笑飞风步改收根干造言联持组每济车亲极林服快办议往元英士证近失转夫令准布始怎呢存未远叫"
    "台单影具罗字爱击流备兵连调深商算质团集百需价花党华城石级整府离况亚请技际约示复病息究线似官火断精满支视消越器容照须九增研写称企八功"
    "吗包片史委乎查轻易早曾除农找装广显吧阿李标谈吃图念六引历首医局突专费号尽另周较注语仅考落青随选列武红响虽推势参希古众构房半节土投某"
    "案黑维革划敌致陈律足态护七兴派孩验责营星够章音跟志底站严巴例防族供效续施留讲型料终答紧黄绝奇察母京段依批群项故按河米围江织害斗双境"
    "客纪采举杀攻父苏密低朝友诉止细愿千值胜责秘冷蓝绿紫粉橙灰棕银短发卷辫帽镜猫狗鸟裙衣裤鞋耳唇脸皮肤甜微哭泪眉衫校园"
)
_HANJI = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
    "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點"
    "正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒"
    "原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資"
    "命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬"
    "髮紅藍綠黃黑紫粉橙灰棕銀短捲直辮帽鏡貓狗鳥裙衣褲鞋耳唇臉皮膚甜微笑哭淚眉衫校園青花星空雲雪雨風光影夜春夏秋冬"
)
_KANJI = (
    "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食車何南"
    "万毎白天母火右読友左休父雨髪目青赤黒黄緑紫茶色銀橙桃灰短眼服制帽猫犬耳笑顔泣涙口手足花空海星雪夜朝夕春夏秋冬光影風方回同性分心社会事"
    "自者新場員立開力問代明動京通言理体田主題意不作用度強公野思家世多正安院界合点私実持元現明全部度都道物要画楽文数記歌曲歩走着売買教室"
)
_HANGUL = (
    "이다는을가의에고하은기지사한를도로리자서어시대나아인들그일정수보전해부라장상제구주만오유공스공무여안원과성생미비경동요우선소세진치으게조중"
    "모신바있것된할년없었적내지마물관면분산학연계발개반국방역용실결화양문파통회두입거달호현머리색갈빨강파란노초록검은흰하얀분홍보라회금긴짧눈"
    "웃음얼굴여자남모자안경고양이강아지꽃별하늘바다옷치마바지짧단곱슬직갈흑백녹청적황귀코입술손발더또때말데와위려당니저든외예행니까지네러드"
    "생각람운작속집민등감재식강품단질본업명표증타란추차최트레테크프메카루디티포토르렌블랙레드그린옐로화이트핑크골드실버"
)
_WESTERN = {
    "cp1252": "äöüßéèêëàâçñóíúáãõåøæïîôûùìòœÄÖÜÉÀÈÅØÆÑÓÁÍÚÇ",
    "cp1250": "ąćęłńóśźżáčďéěíňřšťúůýžőűäöüßăâîșțôŁŚŻŹČŠŽŘÁÉÍÓÖÜ",
    "cp1251": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґў",
}
_CYRILLIC_CAPITALS = "ОЕАИНТСРВЛКМДПУЯЫЬГЗБЧЙХЖШЮЦЩЭФЪЁІЇЄ"
_KANA = "".join(map(chr, range(0x3041, 0x3094))) + "".join(map(chr, range(0x30A1, 0x30F7))) + "ー"
_PUNCTUATION = {
    "gb18030": "，、。；：！？（）《》“”…—·",
    "big5": "，、。；：！？（）「」…—．",
    "cp949": "·",
    "cp1252": "’“”–…",
}
_PUNCTUATION |= {"cp932": "、。「」・！？（），：；　", "euc_jp": "、。「」・！？（），：；　"}

_RARE = log(0.01 / 20_000)
_ASCII_LETTER, _ASCII_OTHER = log(1 / 30), log(1 / 60)
_SWITCH = -4.0  # between two scripts, or to a capital letter, inside one word
_NEIGHBOURS = -2.5  # two accented letters of a Latin script in a row
_PRIOR = {"cp1252": 3.0}  # by far the most common of those for Latin letters


def _codes(encoding: str, leads: Iterable[int], trails: Iterable[int]) -> Iterator[str]:
    """Yield the characters of a double-byte encoding whose bytes are in the given ranges."""
    trails = list(trails)
    for lead in leads:
        for trail in trails:
            text = bytes((lead, trail)).decode(encoding, "ignore")
            if len(text) == 1:
                yield text


_EUC = range(0xA1, 0xFF)
_ORDINARY = {  # the ordinary characters of each encoding: level 1 of its standard
    "gb18030": (range(0xB0, 0xD8), _EUC),
    "big5": (range(0xA4, 0xC7), (*range(0x40, 0x7F), *_EUC)),
    "cp932": (range(0x88, 0x98), (*range(0x40, 0x7F), *range(0x80, 0xFD))),
    "euc_jp": (range(0xB0, 0xD0), _EUC),
    "cp949": (range(0xB0, 0xC9), _EUC),
}
_FREQUENT = {
    "gb18030": ((_HANZI, 0.75),),
    "big5": ((_HANJI, 0.75),),
    "cp932": ((_KANA, 0.5), (_KANJI, 0.3)),
    "euc_jp": ((_KANA, 0.5), (_KANJI, 0.3)),
    "cp949": ((_HANGUL, 0.8),),
    "cp1252": ((_WESTERN["cp1252"], 0.97),),
    "cp1250": ((_WESTERN["cp1250"], 0.97),),
    "cp1251": ((_WESTERN["cp1251"], 0.9), (_CYRILLIC_CAPITALS, 0.08)),
}
LEGACY = tuple(_FREQUENT)
_ACCENTED = ("cp1252", "cp1250")


@cache
def _model(encoding: str) -> dict[str, float]:
    """Return character → logarithm of its probability, for the ordinary characters of an encoding."""
    model: dict[str, float] = {}
    if encoding in _ORDINARY:
        ordinary = set(_codes(encoding, *_ORDINARY[encoding]))
        model = dict.fromkeys(ordinary, log(0.15 / len(ordinary)))
    model |= dict.fromkeys(_PUNCTUATION.get(encoding, ""), log(0.05 / 20))
    for letters, share in _FREQUENT[encoding]:
        model |= dict.fromkeys(letters, log(share / len(set(letters))))
    return model


def prior(encoding: str) -> float:
    """Return the logarithm of how common an encoding is, compared with the others."""
    return _PRIOR.get(encoding, 0.0)


def plausibility(text: str, encoding: str) -> float:
    """Return the logarithm of the probability of a piece of text, as if written in the language of an encoding."""
    model, total = _model(encoding), 0.0
    before = -1  # 0: an ASCII letter, 1: another letter, -1: neither
    previous = ""
    for letter in text:
        plain = letter < "\x80"
        total += (_ASCII_LETTER if letter.isalpha() else _ASCII_OTHER) if plain else model.get(letter, _RARE)
        kind = -1 if not letter.isalpha() else 0 if plain else 1
        if encoding in _ACCENTED:
            total += _NEIGHBOURS if kind == before == 1 else 0
        elif kind != before and -1 not in (kind, before):
            total += _SWITCH
        if previous.islower() and letter.isupper() and not plain:
            total += _SWITCH
        before, previous = kind, letter
    return total


def is_rare(text: str, encoding: str) -> bool:
    """Return True if most of the letters beyond ASCII are not ordinary ones of an encoding's language."""
    beyond = [letter for letter in text if letter >= "\x80"]
    return sum(letter not in _model(encoding) for letter in beyond) * 2 > len(beyond)
