"""Molecules: both constraints against RDKit, on files, on all short strings and on mutilated ones; scores."""

import gzip
import itertools
import math
import pickle
import random
import re

import jax
import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import QED, AllChem, rdMolDescriptors

import sentax as sx
from sentax.domains.base import check_answers
from sentax.domains.molecules import (
    Molecules,
    ValenceCheck,
    canonical,
    diversity,
    grammar,
    is_smiles,
    lipinski,
    novelty,
    qed,
)
from sentax.domains.molecules.data import SAMPLE, read
from sentax.domains.molecules.valence import LONGEST
from sentax.models.data import molecules as generator
from sentax.ppl.constraints.base import PAD
from sentax.testing import check_constraint

DOMAIN = Molecules()
CHECK = ValenceCheck()
LINES = [line.split(maxsplit=1) for line in SAMPLE.read_text().splitlines()]
KNOWN = {name.strip(): smiles for smiles, name in LINES}
ASPIRIN = KNOWN["aspirin"]
ATORVASTATIN = "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CCC(O)CC(O)CC(=O)O"


def prefixes(texts):
    return sorted({text[:end] for text in texts for end in range(len(text) + 1)})


@jax.jit
@jax.vmap
def _walk(token):
    constraint = grammar()
    state = constraint.step(constraint.init(), token)
    return constraint.alive(state), constraint.accepts(state)


def verdicts(texts, width=128):
    """Of the grammar, many at once: whether each text is alive, and whether it is accepted."""
    token = np.full((len(texts), width), PAD, np.int32)
    for row, text in zip(token, texts, strict=True):
        raw = np.frombuffer(text.encode(), np.uint8)
        row[: len(raw)] = raw
    return tuple(
        np.concatenate(part) for part in zip(*(_walk(t) for t in np.array_split(token, 1 + len(token) // 4096)))
    )


def assert_accepted(smiles):
    """Whole by both constraints, with and without a space, and so every beginning."""
    smiles = sorted(set(smiles))
    assert verdicts(smiles)[1].all()
    assert verdicts([" " + text for text in smiles])[1].all()
    beginnings = prefixes(smiles)
    assert verdicts(beginnings)[0].all()
    assert [text for text in smiles if not CHECK.complete_ok(text)] == []
    assert [text for text in beginnings if not CHECK.prefix_ok(text)] == []


def other_spellings(smiles, count, seed):
    """The same molecules from other atoms on, and with double bonds instead of aromatic atoms."""
    spelled = []
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        spelled += Chem.MolToRandomSmilesVect(molecule, count, randomSeed=seed)
        Chem.Kekulize(molecule, clearAromaticFlags=True)
        spelled.append(Chem.MolToSmiles(molecule, canonical=False))
    return spelled


def test_no_answer_is_the_right_one():
    series = DOMAIN.sample()
    assert {DOMAIN.gold(instance) for instance in series} == {None}
    with pytest.raises(ValueError, match="none of these instances has a right answer"):
        check_answers(DOMAIN, series)
    assert len(series) == 20
    assert all(0 < DOMAIN.score(series[0], f" {smiles}") < 1 for smiles in KNOWN.values())


def test_known_molecules_satisfy_both_constraints():
    assert_accepted(KNOWN.values())
    spaced = [f"  {ASPIRIN}", f"{ASPIRIN} ", ASPIRIN.replace("O", " O")]
    assert not verdicts(spaced)[1].any()
    assert not any(map(CHECK.complete_ok, spaced))


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        (f" {ASPIRIN}", r"scores 0\.55\d*, not 1"),  # satisfies both
        (" CC(C)(C)(C)C", "the dear constraint refuses"),
        (" CC(C", "the cheap constraint refuses"),
    ],
)
def test_constraints_by_the_harness_own_check(answer, broken):
    class Answered(Molecules):
        def gold(self, instance):
            return answer

    with pytest.raises(AssertionError, match=broken):
        check_answers(Answered(), DOMAIN.sample()[:1])


def test_the_sample_is_what_it_says():
    """Molecular formulas, as in any handbook."""
    formulas = """
        ethylene glycol C2H6O2; dimethyl sulfoxide C2H6OS; chloroform CHCl3; morpholine C4H9NO; indole C8H7N
        quinoline C9H7N; styrene C8H8; tryptophan C11H12N2O2; arginine C6H14N4O2; histidine C6H9N3O2
        serotonin C10H12N2O; adrenaline C9H13NO3; citric acid C6H8O7; palmitic acid C16H32O2; vanillin C8H8O3
        eugenol C10H12O2; thymol C10H14O; menthol C10H20O; camphor C10H16O; limonene C10H16; geraniol C10H18O
        coumarin C9H6O2; caffeine C8H10N4O2; nicotine C10H14N2; aspirin C9H8O4; paracetamol C8H9NO2
        ibuprofen C13H18O2; naproxen C14H14O3; diclofenac C14H11Cl2NO2; lidocaine C14H22N2O; procaine C13H20N2O2
        diphenhydramine C17H21NO; metformin C4H11N5; propranolol C16H21NO2; atenolol C14H22N2O3
        salbutamol C13H21NO3; diazepam C16H13ClN2O; phenobarbital C12H12N2O3; phenytoin C15H12N2O2
        carbamazepine C15H12N2O; fluoxetine C17H18F3NO; imipramine C19H24N2; warfarin C19H16O4
        sulfamethoxazole C10H11N3O3S; trimethoprim C14H18N4O3; isoniazid C6H7N3O; metronidazole C6H9N3O3
        fluconazole C13H12F2N6O; ciprofloxacin C17H18FN3O3; omeprazole C17H19N3O3S; guanine C5H5N5O
        thymine C5H6N2O2; pyridoxine C8H11NO3; glucose C6H12O6; ascorbic acid C6H8O6
    """
    for entry in re.split(r";|\n", formulas.strip()):
        name, formula = entry.strip().rsplit(" ", 1)
        assert rdMolDescriptors.CalcMolFormula(Chem.MolFromSmiles(KNOWN[name])) == formula
    assert len({canonical(smiles) for smiles in KNOWN.values()}) == len(LINES)


@pytest.mark.parametrize("file", ["nci_smiles.txt", "GDB17_sample.txt"])
def test_every_prefix_of_the_data(data, file):
    smiles = [line.split()[0] for line in (data / file).read_text().splitlines()]
    assert all(Chem.MolFromSmiles(text) is not None for text in smiles)
    assert_accepted(smiles)
    assert all(0 < qed(text) < 1 for text in smiles)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["nci_smiles.txt", "GDB17_sample.txt"])
def test_every_prefix_of_other_spellings_of_the_data(data, file):
    smiles = [line.split()[0] for line in (data / file).read_text().splitlines()]
    assert_accepted(other_spellings(smiles, 5, seed=1))


def test_every_prefix_of_other_spellings():
    assert_accepted(other_spellings(KNOWN.values(), 1, seed=0))


def test_every_prefix_of_generated_molecules():
    """What the embedded model learned: with charges, salts, stereo marks and rings of rings."""
    rng = random.Random(0)
    smiles = [generator.smiles(rng) for _ in range(300)]
    assert all(Chem.MolFromSmiles(text) is not None for text in smiles)
    # partialsmiles writes the last branch without parentheses.
    assert_accepted(text for text in smiles if not text.endswith(")"))


def test_every_prefix_with_symbols_of_several_characters():
    """Where a text is cut inside a symbol, and the molecule is only right with all of it."""
    renumbered = [re.sub("[12]", r"%1\g<0>", text) for text in KNOWN.values() if "[" not in text]
    assert sum("%12" in text for text in renumbered) > 10
    assert_accepted(renumbered)
    assert_accepted(
        ["O=[As]c1ccccc1", "C[te]C", "C%10CCCO%10", "[13CH3][C@@H](O)[NH3+]", "[Na+].[Cl-]", "C1C#Br(C)C1"]
    )
    for text in ("[A", "C=[t", "C%10CCCO%1", "C%10CCCO%", "C1C#B"):  # that partialsmiles refuses, or misreads
        assert CHECK.prefix_ok(text)


@pytest.mark.parametrize(
    ("symbols", "length", "differ"),
    [
        ("CO=()1", 5, lambda text: text.endswith(")")),
        ("CNF=#1", 4, lambda text: re.search("=N#|#N=", text)),
    ],
)
def test_all_short_strings(symbols, length, differ):
    """RDKit's verdict on each, but for what :class:`ValenceCheck` says that it refuses; and the two laws."""
    completed = set()
    for size in range(length + 1):
        for characters in itertools.product(symbols, repeat=size):
            text = "".join(characters)
            if CHECK.complete_ok(text) != (qed(text) > 0):
                assert qed(text) > 0 and differ(text), text
            elif CHECK.complete_ok(text):
                completed.add(text)
            assert not CHECK.prefix_ok(text) or CHECK.prefix_ok(text[:-1])
    assert len(completed) > 50
    assert all(CHECK.prefix_ok(text) for text in prefixes(completed))
    assert verdicts(sorted(completed))[1].all()


@pytest.mark.parametrize(
    "wrong",
    [
        "C1CCCC",  # an open ring
        "CC(C",  # an open branch
        "CC)C",
        "CC(C)(C)(C)C",  # five bonds of carbon
        "C=C=C=C#C",
        "c1cccc1",  # five carbons have no Kekulé structure
        "n1cccc1",
        "c1ccncc1=O",
        "CF=C",
        "COO(C)C",
        "C[NH4+]",
        "C11",
        "C12CC12",
        "C==C",
        "C=",
        "(C)C",
        "C()C",
        "[CH4",
        "[Xx]",
        "",
        " ",
    ],
)
def test_wrong_molecules_are_refused(wrong):
    assert not CHECK.complete_ok(wrong)
    assert not CHECK.complete_ok(f" {wrong}")
    assert DOMAIN.score(DOMAIN.sample()[0], f" {wrong}") == 0


def test_hopeless_prefixes_are_refused_at_once():
    for text in (
        "CC(C)(C)(C",
        "C=C=C=C#C",
        "CF=",
        "CF(",
        "C1CCF1",
        "c1cccc1C",
        "C)",
        "C((",
        "[Xx",
        "[C@@@",
        "[C+-",
        "  C",
    ):
        assert not CHECK.prefix_ok(text), text


def test_mutilated_molecules():
    """No exception, no verdict that a longer text takes back, nothing that the grammar does not accept."""
    rng = random.Random(0)
    pieces = [*"CcNnOoSsPpBbFIlrH[]()=#$/\\.:-+%@0123456789*>~ ", "é", "²", "\0", "\n"]
    pieces += ["Cl", "Br", "[nH]", "[O-]", "[se]", "[13C]", "[²", "%10", "%1", "[Fe+++", "$C", "(=O)"]
    accepted, refused = set(), 0
    for _ in range(600):
        text = rng.choice(list(KNOWN.values()))
        for _ in range(rng.randint(1, 3)):
            start = rng.randint(0, len(text))
            text = text[:start] + rng.choice(pieces) + text[rng.choice((start, start, start + 1)) :]
        beginnings = [CHECK.prefix_ok(text[:end]) for end in range(len(text) + 1)]
        assert beginnings == sorted(beginnings, reverse=True), text
        if CHECK.complete_ok(text):
            assert beginnings[-1]
            accepted.add(text)
        else:
            refused += 1
    assert len(accepted) > 30 and refused > 200
    assert verdicts(sorted(accepted))[1].all()


def test_the_dear_constraint_keeps_the_laws():
    check_constraint(
        DOMAIN.dear(DOMAIN.sample()[0]),
        texts=[f" {ASPIRIN}", "C%10CC%10", "[As]", "C(C)(C)(C)(C)C"],
        oracle=lambda raw: raw.isascii() and CHECK.complete_ok(raw.decode()),
    )


def test_grammar():
    yes = [
        "C",
        "[nH]1cccc1",
        "C=1CCC=1",
        "C/C=C\\C",
        "N[C@@H](C)C(=O)O",
        "[13CH3-]",
        "[Fe+2]",
        "[Cu++]",
        "C1.C1",
        "CC(C)",
    ]
    yes += ["[CH3:12]", "[Co@OH12]", "C%01CC%01", "OC(.C)", "c1ccccc1:c1ccccc1", "F[P-](F)(F)(F)(F)F"]
    no = [
        "",
        "*",
        "C>>C",
        "1CC1",
        "C(",
        "C)",
        "()",
        "C()",
        "(C)",
        "C(C)1",
        "[C",
        "C]",
        "[X]",
        "[]",
        "Xe",
        "C%1",
        "C=",
        "=C",
    ]
    no += [".C", "C.", "C..C", "C C", "C\n", "CÉ", "c1ccccc1\0", "[C@@@]", "[CH10]"]
    assert verdicts(yes)[1].all()
    assert not verdicts(no)[1].any()
    assert [text for text in yes if not is_smiles(text)] == [text for text in no if is_smiles(text)] == []
    deep = ["C(" * depth + "C" + ")" * depth for depth in (32, 33)]
    assert verdicts(deep)[1].tolist() == [True, False]


def test_qed_is_rdkits():
    for smiles in KNOWN.values():
        assert qed(smiles) == QED.qed(Chem.MolFromSmiles(smiles))
    # The three examples of RDKit's own documentation.
    assert math.floor(1000 * qed("N=C(CCSCc1csc(N=C(N)N)n1)NS(N)(=O)=O")) == 253
    assert math.floor(1000 * qed("CNC(=NCCSCc1nc[nH]c1C)NC#N")) == 234
    assert math.floor(1000 * qed("CCCCCNC(=N)NN=Cc1c[nH]c2ccc(CO)cc12")) == 234
    # Another way to write it is the same molecule.
    assert math.isclose(qed("OC(=O)C1=CC=CC=C1OC(C)=O"), qed(ASPIRIN), abs_tol=1e-12)


HOSTILE = {
    "empty": "",
    "space": " ",
    "spaces": "  CC",
    "after": "CC ",
    "name": "CC ethane",
    "extension": "CC |$a;b$|",
    "tab": "CC\t",
    "newline": "CC\nCC",
    "nul": "CC\0",
    "accent": "Cé",
    "surrogate": "C\ud800",
    "digit": "C²CC²",
    "opening": "(" * 10_000,
    "closing": ")" * 10_000,
    "nested": "C(" * 10_000 + "C" + ")" * 10_000,
    "open": "C(" * 490,
    "brackets": "[" * 10_000,
    "rings": "".join(f"C%{n}" for n in range(10, 100)) * 10,
    "long": "C" * (LONGEST + 1),
    "wildcard": "*",
    "wildcards": "C*C",
    "reaction": "CC>>CC",
    "number": "[#0]",
    "json": '{"a": "CC"}',
    "sql": "C'; DROP TABLE molecules;",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_worth_nothing(answer, capfd):
    assert DOMAIN.score(DOMAIN.sample()[0], answer) == 0
    assert lipinski(answer) is canonical(answer) is None
    assert CHECK.complete_ok(answer) is False
    assert isinstance(CHECK.prefix_ok(answer), bool)
    assert capfd.readouterr() == ("", "")  # RDKit says nothing of it either


def test_the_longest_answers():
    for text in (
        "C" * LONGEST,
        "c" * LONGEST,
        "c1ccccc1" * (LONGEST // 8),
        "C(" * (LONGEST // 3) + "C" + ")C" * 111,
    ):
        assert isinstance(CHECK.prefix_ok(text), bool)
        assert isinstance(CHECK.complete_ok(text), bool)
        assert 0 <= qed(text) < 1
    assert CHECK.complete_ok("C" * LONGEST) and qed("C" * LONGEST) > 0


def test_lipinski():
    """Weights from atomic masses; hydrogens, nitrogens and oxygens counted from formulas."""
    masses = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999, "F": 18.998, "S": 32.06, "Cl": 35.45}
    cases = [
        (ASPIRIN, "C9H8O4", 1, 4, 0),
        (KNOWN["glucose"], "C6H12O6", 5, 6, 0),
        ("OCC(O)C(O)C(O)C(O)CO", "C6H14O6", 6, 6, 1),  # mannitol: too many donors
        (KNOWN["palmitic acid"], "C16H32O2", 1, 2, 1),  # too fatty
        (ATORVASTATIN, "C33H35FN2O5", 4, 7, 2),  # too heavy and too fatty
        ("OCC1OC(OC2(CO)OC(CO)C(O)C2O)C(O)C(O)C1O", "C12H22O11", 8, 11, 2),  # sucrose
    ]
    for smiles, formula, donors, acceptors, violations in cases:
        atoms = {symbol: int(count or 1) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}
        found = lipinski(smiles)
        assert found.weight == pytest.approx(sum(masses[s] * n for s, n in atoms.items()), abs=0.02)
        assert found.acceptors == atoms.get("N", 0) + atoms.get("O", 0) == acceptors
        assert (found.donors, found.violations) == (donors, violations)


def test_novelty():
    known = ["CCO", "c1ccccc1"]
    assert novelty(["OCC", "C(O)C", "C1=CC=CC=C1"], known) == 0  # spelled in other ways
    assert novelty([" CCC", " OCC"], known) == 0.5
    assert novelty(["CCC", "OCC", "C(C", ""], known) == 0.5  # of molecules alone
    assert novelty({"CCC": 0.2, " OCC": 0.6, "C(C": 0.2}, known) == pytest.approx(0.25)
    assert novelty([], known) == novelty(["C("], known) == 0
    assert novelty(["CCC"], []) == 1
    with pytest.raises(ValueError, match=r"'C\(', of those known, is not a molecule"):
        novelty(["CCC"], ["CCO", "C("])


def test_diversity():
    assert diversity(["CCO"] * 5) == diversity(["CCO", " OCC"]) == diversity({"CCO": 0.3, "OCC": 0.7}) == 0
    assert diversity([]) == diversity(["CCO"]) == diversity(["CCO", "C("]) == diversity({}) == 0

    names = ["aspirin", "paracetamol", "ibuprofen", "naproxen", "caffeine"]
    smiles = [KNOWN[name] for name in names]
    prints = [AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(s), 2, 2048) for s in smiles]
    apart = {
        (a, b): 1 - DataStructs.TanimotoSimilarity(prints[a], prints[b])
        for a, b in itertools.product(range(5), repeat=2)
    }
    pairs = list(itertools.combinations(range(5), 2))
    assert diversity(smiles) == pytest.approx(sum(apart[pair] for pair in pairs) / len(pairs), abs=1e-12)
    p = [0.4, 0.3, 0.15, 0.1, 0.05]
    expected = sum(p[a] * p[b] * apart[a, b] for a, b in apart)
    assert diversity(dict(zip(smiles, p))) == pytest.approx(expected, abs=1e-12)
    # What is not a molecule has no part: the rest is weighted as if it were all.
    assert diversity({**{s: q / 2 for s, q in zip(smiles, p)}, "C(": 0.5}) == pytest.approx(expected, abs=1e-12)


def test_read_draws_what_the_seed_says(tmp_path):
    smiles = ["C" * n for n in range(1, 41)]
    (tmp_path / "GDB17.50000000.smi").write_text("\n\n".join(smiles) + "\n")
    series = DOMAIN.load(tmp_path)
    rng = random.Random(1234)
    assert [list(one.molecules) for one in series] == [rng.sample(smiles, 20) for _ in range(100)]
    assert [one.id for one in series] == [str(n) for n in range(100)]
    assert series == DOMAIN.load(tmp_path / "GDB17.50000000.smi")
    assert series != Molecules(seed=1235).load(tmp_path)


def test_read_layouts(tmp_path):
    options = {"num_prompts": 3, "num_shots": 2, "seed": 0}
    lines = "CCO ethanol\nCC=O\tacetaldehyde 75-07-0\r\nC  \n"
    (tmp_path / "molecules").mkdir()
    with gzip.open(tmp_path / "molecules" / "gdb17.smi.gz", "wt") as file:
        file.write(lines)
    (tmp_path / "other_smiles.txt").write_text("N\nO\n")
    series = read(tmp_path, **options)
    assert {smiles for one in series for smiles in one.molecules} <= {"CCO", "CC=O", "C"}
    (tmp_path / "molecules" / "gdb17.smi.gz").unlink()
    (tmp_path / "molecules").rmdir()
    assert {smiles for one in read(tmp_path, **options) for smiles in one.molecules} == {"N", "O"}


def test_read_complains(tmp_path):
    options = {"num_prompts": 1, "num_shots": 2, "seed": 0}
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read(tmp_path / "nowhere", **options)
    with pytest.raises(FileNotFoundError, match=r"has none of: gdb17\*\.smi"):
        read(tmp_path, **options)
    file = tmp_path / "a.smi"
    file.write_text("\nC\n\n")
    with pytest.raises(ValueError, match=r"a\.smi has 1 molecules, fewer than the 2"):
        read(tmp_path, **options)
    file.write_text("smiles,name\n\nC\n")
    with pytest.raises(ValueError, match=r"a\.smi, line 1: 'smiles,name' is not a SMILES"):
        read(tmp_path, **options)
    file.write_bytes(b"C\n\xff\n")
    with pytest.raises(ValueError, match=r"line 2: .* is not a SMILES"):
        read(tmp_path, **options)
    (tmp_path / "b.smi").write_text("C\nC\n")
    with pytest.raises(ValueError, match=r"has a\.smi, b\.smi: give the path of one"):
        read(tmp_path, **options)
    assert read(tmp_path / "b.smi", **options)[0].molecules == ("C", "C")


def test_the_real_layout(data):
    series = DOMAIN.load(data)
    lines = (data / "GDB17_sample.txt").read_text().split()
    assert len(series) == 100
    assert all(len(set(one.molecules)) == 20 and set(one.molecules) <= set(lines) for one in series)
    assert len(DOMAIN.load(data / "nci_smiles.txt")) == 100


def test_prompts():
    series = DOMAIN.sample()[0]
    lines = DOMAIN.prompt(series).split("\n")
    assert len(lines) == 22 and lines[0].startswith("You are an expert") and lines[-1] == "Molecule:"
    assert [line.removeprefix("Molecule: ") for line in lines[1:-1]] == list(series.molecules)
    assert Molecules(instruction="").prompt(series).split("\n") == lines[1:]
    messages = DOMAIN.chat(series)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "\n".join(series.molecules) in messages[1]["content"]
    assert len(Molecules(instruction="").chat(series)) == 1


def test_travels_to_other_processes():
    domain, series, dear = pickle.loads(pickle.dumps((DOMAIN, DOMAIN.sample()[1], DOMAIN.dear(None))))
    assert series == domain.sample()[1]
    assert domain.score(series, f" {ASPIRIN}") == DOMAIN.score(series, ASPIRIN)
    assert dear.matches(ASPIRIN) and not dear.matches("C1CC")


def test_posterior_against_enumeration():
    """A program with both constraints against all texts of four tokens that RDKit takes for molecules.

    The tokens are drawn uniformly, so a particle's weight is 0 or 1: the evidence is a mean of N coins.
    """
    tokens, longest, N = ["C", "=O", "N", "(", ")O", "1", "F"], 4, 4096
    lm = sx.TableLM.uniform([token.encode() for token in tokens])
    size = len(tokens) + 1
    right = {}
    for length in range(1, longest + 1):
        for choice in itertools.product(tokens, repeat=length):
            if qed("".join(choice)) > 0:
                text = "".join(choice)
                p = size ** -(length + 1.0) if length < longest else size**-longest
                right[text] = right.get(text, 0.0) + p
    assert len(right) > 60

    def model(context, where):
        return sx.generate("answer", context, max_tokens=longest, where=where)

    series = DOMAIN.sample()[0]
    smc = sx.SMC(sx.Prior(model), num_particles=N, ess_threshold=0.0)
    smc.run(jax.random.key(0), lm.prompt(), DOMAIN.cheap(series) & DOMAIN.dear(series))
    evidence = sum(right.values())
    z = (np.exp(smc.log_evidence) - evidence) / np.sqrt(evidence * (1 - evidence) / N)
    assert abs(z) < 4.75  # false alarm 2e-6
    assert set(smc.posterior("answer")) <= set(right)
