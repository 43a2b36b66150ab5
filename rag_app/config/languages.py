"""The languages that words can be counted in."""

STANDARD = "standard"
"""Words as they are: neither stemmed nor without stop words."""

STEMMED = (
    *("arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french"),
    *("german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian"),
    *("nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "spanish", "swedish"),
    *("tamil", "turkish", "yiddish"),
)
"""Languages that Snowball has a stemmer for."""

AUTO = "auto"
"""Each text's own."""

LANGUAGES = (AUTO, STANDARD, *STEMMED)
