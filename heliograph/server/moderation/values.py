"""The value lists of the DSA Transparency Database that reports and decisions use.

Read from the Commission's own validator (digital-services-act/transparency-database, commit 69e80a0b, schema in force
since 2025-07-01). Keywords stand in the groups of Implementing Regulation (EU) 2024/2835; `KEYWORD_OTHER` belongs to
each.
"""

from typing import Final

from heliograph.wire.moderation import Ground
from heliograph.wire.problems import Problem

KEYWORD_OTHER: Final = "KEYWORD_OTHER"
NOT_SPECIFIED: Final = "STATEMENT_CATEGORY_NOT_SPECIFIED_NOTICE"
OTHER_TERMS: Final = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"

SOURCE_NOTICE: Final = "SOURCE_ARTICLE_16"
SOURCE_OTHER_NOTIFICATION: Final = "SOURCE_TYPE_OTHER_NOTIFICATION"

# fmt: off
CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "STATEMENT_CATEGORY_ANIMAL_WELFARE": (
        "KEYWORD_ANIMAL_HARM",
        "KEYWORD_UNLAWFUL_SALE_ANIMALS",
    ),
    "STATEMENT_CATEGORY_CONSUMER_INFORMATION": (
        "KEYWORD_HIDDEN_ADVERTISEMENT",
        "KEYWORD_INSUFFICIENT_INFORMATION_ON_TRADERS",
        "KEYWORD_MISLEADING_INFO_GOODS_SERVICES",
        "KEYWORD_MISLEADING_INFO_CONSUMER_RIGHTS",
        "KEYWORD_NONCOMPLIANCE_PRICING",
    ),
    "STATEMENT_CATEGORY_CYBER_VIOLENCE": (
        "KEYWORD_CYBER_BULLYING_INTIMIDATION",
        "KEYWORD_CYBER_HARASSMENT",
        "KEYWORD_CYBER_INCITEMENT",
        "KEYWORD_CYBER_STALKING",
        "KEYWORD_NON_CONSENSUAL_IMAGE_SHARING",
        "KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE",
    ),
    "STATEMENT_CATEGORY_CYBER_VIOLENCE_AGAINST_WOMEN": (
        "KEYWORD_BULLYING_AGAINST_GIRLS",
        "KEYWORD_CYBER_HARASSMENT_AGAINST_WOMEN",
        "KEYWORD_CYBER_STALKING_AGAINST_WOMEN",
        "KEYWORD_FEMALE_GENDERED_DISINFORMATION",
        "KEYWORD_INCITEMENT_AGAINST_WOMEN",
        "KEYWORD_NON_CONSENSUAL_IMAGE_SHARING_AGAINST_WOMEN",
        "KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE_AGAINST_WOMEN",
    ),
    "STATEMENT_CATEGORY_DATA_PROTECTION_AND_PRIVACY_VIOLATIONS": (
        "KEYWORD_BIOMETRIC_DATA_BREACH",
        "KEYWORD_DATA_FALSIFICATION",
        "KEYWORD_MISSING_PROCESSING_GROUND",
        "KEYWORD_RIGHT_TO_BE_FORGOTTEN",
    ),
    "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH": (
        "KEYWORD_DEFAMATION",
        "KEYWORD_DISCRIMINATION",
        "KEYWORD_HATE_SPEECH",
    ),
    "STATEMENT_CATEGORY_INTELLECTUAL_PROPERTY_INFRINGEMENTS": (
        "KEYWORD_COPYRIGHT_INFRINGEMENT",
        "KEYWORD_DESIGN_INFRINGEMENT",
        "KEYWORD_GEOGRAPHIC_INDICATIONS_INFRINGEMENT",
        "KEYWORD_PATENT_INFRINGEMENT",
        "KEYWORD_TRADE_SECRET_INFRINGEMENT",
        "KEYWORD_TRADEMARK_INFRINGEMENT",
    ),
    "STATEMENT_CATEGORY_NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS": (
        "KEYWORD_MISINFORMATION_DISINFORMATION",
        "KEYWORD_VIOLATION_EU_LAW",
        "KEYWORD_VIOLATION_NATIONAL_LAW",
    ),
    "STATEMENT_CATEGORY_PROTECTION_OF_MINORS": (
        "KEYWORD_AGE_SPECIFIC_RESTRICTIONS_MINORS",
        "KEYWORD_CHILD_SEXUAL_ABUSE_MATERIAL",
        "KEYWORD_CHILD_SEXUAL_ABUSE_MATERIAL_DEEPFAKE",
        "KEYWORD_GROOMING_SEXUAL_ENTICEMENT_MINORS",
        "KEYWORD_UNSAFE_CHALLENGES",
    ),
    "STATEMENT_CATEGORY_RISK_FOR_PUBLIC_SECURITY": (
        "KEYWORD_ILLEGAL_ORGANIZATIONS",
        "KEYWORD_RISK_ENVIRONMENTAL_DAMAGE",
        "KEYWORD_RISK_PUBLIC_HEALTH",
        "KEYWORD_TERRORIST_CONTENT",
    ),
    "STATEMENT_CATEGORY_SCAMS_AND_FRAUD": (
        "KEYWORD_IMPERSONATION_ACCOUNT_HIJACKING",
        "KEYWORD_INAUTHENTIC_ACCOUNTS",
        "KEYWORD_INAUTHENTIC_LISTINGS",
        "KEYWORD_INAUTHENTIC_USER_REVIEWS",
        "KEYWORD_PHISHING",
        "KEYWORD_PYRAMID_SCHEMES",
    ),
    "STATEMENT_CATEGORY_SELF_HARM": (
        "KEYWORD_CONTENT_PROMOTING_EATING_DISORDERS",
        "KEYWORD_SELF_MUTILATION",
        "KEYWORD_SUICIDE",
    ),
    "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS": (
        "KEYWORD_PROHIBITED_PRODUCTS",
        "KEYWORD_UNSAFE_PRODUCTS",
    ),
    "STATEMENT_CATEGORY_VIOLENCE": (
        "KEYWORD_COORDINATED_HARM",
        "KEYWORD_INCITEMENT_VIOLENCE_HATRED",
        "KEYWORD_HUMAN_EXPLOITATION",
        "KEYWORD_HUMAN_TRAFFICKING",
        "KEYWORD_TRAFFICKING_WOMEN_GIRLS",
    ),
    "STATEMENT_CATEGORY_OTHER_VIOLATION_TC": (
        "KEYWORD_ADULT_SEXUAL_MATERIAL",
        "KEYWORD_AGE_SPECIFIC_RESTRICTIONS",
        "KEYWORD_GEOGRAPHICAL_REQUIREMENTS",
        "KEYWORD_GOODS_SERVICES_NOT_PERMITTED",
        "KEYWORD_LANGUAGE_REQUIREMENTS",
        "KEYWORD_NUDITY",
    ),
    "STATEMENT_CATEGORY_NOT_SPECIFIED_NOTICE": (),
}
# fmt: on


def check_notice(category: str, keyword: str | None) -> None:
    """Check what a report names.

    Raises:
        Problem: `malformed`, there is no such category, or the keyword is not one of it.
    """
    _check(category, () if keyword is None else (keyword,))


def check_decision(ground: Ground, category: str, keywords: tuple[str, ...]) -> None:
    """Check what a decision names: unlike a notice it must say which category it is about.

    Raises:
        Problem: `malformed`.
    """
    if category == NOT_SPECIFIED:
        raise Problem("malformed", "a decision names the category that it is about")
    if category == OTHER_TERMS and ground == "illegal-content":
        raise Problem("malformed", f"{OTHER_TERMS} is for content against the terms, not for illegal content")
    _check(category, keywords)


def category_labels() -> list[tuple[str, str]]:
    """Return each category that a notice can name, with the words a form shows for it."""
    return [(category, label(category, "STATEMENT_CATEGORY_")) for category in CATEGORIES]


def label(value: str, prefix: str) -> str:
    """Return a value in plain words: `STATEMENT_CATEGORY_SELF_HARM` reads as "Self harm"."""
    words = value.removeprefix(prefix).replace("_", " ").lower()
    return words[:1].upper() + words[1:]


def _check(category: str, keywords: tuple[str, ...]) -> None:
    known = CATEGORIES.get(category)
    if known is None:
        raise Problem("malformed", f"there is no category {category[:80]}")
    for keyword in keywords:
        if keyword != KEYWORD_OTHER and keyword not in known:
            raise Problem("malformed", f"{keyword[:80]} is not a keyword of {category}")
