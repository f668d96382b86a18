"""What the paper reports, Tables I to IV: numbers of others, never measured here."""

import pandas as pd

# name, mean and std of the angular error in degrees, shares in per cent below 20, 25 and 30 degrees
_ERRORS = {
    "I": """
        CARN        15.89 9.54 73.48 84.98 91.55
        CBE         14.63 8.56 79.89 89.53 94.48
        BNN         11.79 8.91 86.08 93.81 96.04
        Res         10.49 7.46 90.15 95.32 97.51
        Rec          9.23 7.67 92.68 95.78 97.25
        Rec+adv      8.91 7.33 92.99 96.14 97.87
        Rec+tv       8.70 7.12 93.48 96.58 98.02
        AdaIN        8.89 7.69 92.39 95.66 97.26
        FMM          8.63 6.82 92.12 95.64 97.22
        t=0         10.21 7.75 90.03 94.92 97.21
        t=1          8.02 6.17 95.31 97.80 98.41
        t=2/Cas-FNE  7.31 5.92 96.26 98.17 99.01
        t=3          7.28 5.87 96.29 98.21 99.04
        t=4          7.25 5.76 96.31 98.22 99.05
        t=5          7.24 5.78 96.32 98.25 99.07""",
    "II": """
        SfSNet      25.5  9.3  43.6  57.5  68.7
        PRN         24.8  6.8  43.1  57.4  69.4
        CM          22.8  6.5  49.0  62.9  74.1
        RAFaRe      24.3  8.4  45.6  58.2  71.2
        UberNet     29.1 11.5  30.8  36.5  55.2
        NiW         22.0  6.3  36.6  59.8  79.6
        Marr_Rev    28.3 10.1  31.8  36.5  44.4
        SfSNet-ft   12.8  5.4  83.7  90.8  94.5
        CM-ft       12.0  5.3  85.2  92.0  95.6
        LAP         12.3  4.5  84.9  92.4  96.3
        HF          11.3  7.7  88.6  94.4  97.2
        Cas-FNE      7.31 5.92 96.26 98.17 99.01""",
    "III": """
        SfSNet      18.7  3.2  63.1  77.2  86.7
        3DDFA       14.3  2.3  79.7  87.3  91.8
        PRN         14.1  2.2  79.9  88.2  92.9
        CM          11.3  1.5  89.3  94.6  96.9
        HF          10.1  3.4  92.3  95.6  97.8
        RAFaRe      14.0  2.1  80.1  88.5  93.1
        Cas-FNE      7.24 2.1  96.54 98.23 99.1""",
}
_CORPORA = {"I": "Photoface", "II": "Photoface", "III": "Florence"}

# name, billions of operations, millions of parameters, milliseconds at 256x256; t counts predictions here, t=2 is one
# refinement, and both counts are as `thop` has them (docs/leaderboard.md)
_COSTS = """
        CM           49   35.2 33
        HF          234  126.4 79
        AdaIN        25.8 29.3 12
        FMM          35.8 36.8 14
        t=1          14.2 22.9 11
        t=2/Cas-FNE  20.2 29.3 12
        t=3          26.2 29.3 12
        t=4          32.2 29.3 13
        t=5          38.2 29.3 13"""


def errors(table: str) -> pd.DataFrame:
    """The paper's Table I, II or III: kind ("reported"), source, name, mean_deg, std_deg, below_20_deg, below_25_deg,
    below_30_deg (fractions 0..1), in the paper's order."""
    columns = ["name", "mean_deg", "std_deg", "below_20_deg", "below_25_deg", "below_30_deg"]
    frame = _parsed(_ERRORS[table], columns)
    frame[columns[3:]] = (frame[columns[3:]] / 100).round(6)
    source = f"paper, Table {table}, {_CORPORA[table]}"
    return pd.concat([pd.DataFrame({"kind": "reported", "source": [source] * len(frame)}), frame], axis=1)


def costs() -> pd.DataFrame:
    """The paper's Table IV: kind ("reported"), source, name, giga_operations, million_parameters, milliseconds."""
    frame = _parsed(_COSTS, ["name", "giga_operations", "million_parameters", "milliseconds"])
    return pd.concat([pd.DataFrame({"kind": "reported", "source": ["paper, Table IV"] * len(frame)}), frame], axis=1)


def _parsed(text: str, columns: list[str]) -> pd.DataFrame:
    lines = [line.split() for line in text.strip().splitlines()]
    rows = [[name.replace("_", " "), *map(float, numbers)] for name, *numbers in lines]
    return pd.DataFrame(rows, columns=columns)
