"""Everyday phrases: what people say of pictures, what they ask for that a gallery hardly ever has, and what is no word
at all. Knows no model."""

import random
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

BANK = Path(__file__).with_name("phrases.txt")
"""Descriptions of pictures, a line each; what begins with # is a remark."""
WORD_SHARE, WORD_LETTERS = 0.2, 3
"""The share of the bank that is single words of these, the most frequent ones; the fewest letters of a word."""

PHRASES = """
a filled-in tax form; the washing machine in the cellar; a bathroom with white tiles; an empty parking garage at
night; the boiler room of an old building; my lease agreement; a screenshot of a spreadsheet; the minutes of the last
meeting; a bar chart of quarterly sales; the wiring diagram of a car; an invoice from the plumber; a cracked phone
screen; a stack of moving boxes; the inside of a refrigerator; a rack of servers with blinking lights; a printed
circuit board; a soldering iron on a bench; a drill press in a workshop; a stapler and paper clips; a filing cabinet
full of folders; a whiteboard covered in equations; a warehouse full of pallets; a forklift loading a truck; an
assembly line of cars; a crane unloading containers in the harbour; an oil refinery at dusk; a row of wind turbines;
solar panels on a flat roof; a dam with water pouring out; a coal mine entrance; a quarry seen from above; a steel
mill; a glacier calving into the sea; the northern lights over a frozen lake; a lightning strike over the prairie; a
satellite picture of a hurricane; cracked mud in a dry river bed; a stalactite cave; a coral reef; an iceberg; sand
dunes at sunrise; a mangrove swamp; a bamboo grove; a field of lavender; rice terraces in the mist; a vineyard in
autumn; a greenhouse full of seedlings; a compost heap; moss on a tree trunk; mushrooms on a rotten log; a termite
mound; a wasp nest under the roof; a jellyfish tank in an aquarium; a flock of starlings in the evening sky; salmon
jumping up a waterfall; a chameleon on a twig; a walrus colony; a hyena at night; a vulture on a fence post; a stork
on a chimney; a beehive in the orchard; a horse-drawn plough; a combine harvester; a tractor tyre; a barbed wire
fence; a rusty gate; a spiral staircase in a lighthouse; stained glass in a cathedral; the ruins of an abbey; an
Egyptian sarcophagus; a Greek vase in a museum; a Roman aqueduct; a medieval suit of armour; a wax seal on parchment;
an old typewriter; a gramophone; a slide rule; an abacus; a pocket watch without hands; a sewing machine; a loom with
half a carpet; a spinning wheel; a pottery kiln; a blacksmith's anvil; a cuckoo clock; a music stand with sheet music;
a church organ; a harpsichord; a bassoon; bagpipes; a xylophone; a puppet theatre; an opera stage; a ballet rehearsal;
a chess tournament; a crossword puzzle; a jigsaw puzzle with one piece missing; a deck of tarot; a roulette wheel; a
pinball machine; a model railway; a dollhouse; a rocking horse; a pram in the hallway; a baby's first tooth; an
ultrasound picture; an X-ray of a broken wrist; a dentist's chair; a hearing aid; a blood pressure cuff; boxes of
medicine; an operating theatre; a microscope slide of cells; a petri dish; a centrifuge; the periodic table; a
particle accelerator; a radio telescope; the surface of Mars; a lunar eclipse diagram; a star chart; a seismograph
reading; a topographic map; a plan of the underground; the floor plan of an apartment; a building permit; a passport
stamp; a boarding pass; a luggage carousel; an airport control tower; the cockpit of a glider; a hot tub on a terrace;
a hotel lobby; a revolving door; an escalator in a department store; a supermarket receipt; a vending machine; a
barcode; a price tag; a pawn shop window; a bank vault; a tollbooth on the motorway; a traffic jam in a tunnel; a
level crossing; a cement mixer; a road roller; scaffolding around a church; a manhole cover; a fire escape; a lift
shaft; air conditioning units on a wall; a satellite dish; a power line pylon; an electricity meter; a fuse box; a
leaking tap; a clogged drain; a toilet brush; a shower curtain; an ironing board; a clothes rack; a vacuum cleaner; a
dishwasher; a toaster; a pressure cooker; a coffee grinder; a cheese grater; a rolling pin; a corkscrew; a nutcracker;
a pepper mill; a jar of pickled beetroot; a tin of sardines; lasagne in an oven dish; a pot of lentil stew; a plate of
oysters; asparagus with hollandaise; stuffed peppers; a gingerbread recipe; rhubarb crumble; a bowl of muesli; quince
jelly; a slice of marzipan; a sack of flour; barley; sorghum; turmeric powder; vanilla pods; star anise; a nutritional
label; the menu of a canteen; a wine cellar; a brewery tank; a distillery; a wedding seating plan; a funeral wreath; a
tombstone inscription; a family tree; a christening gown; a school timetable; a report card; a graduation speech; a
lecture hall; a courtroom sketch; a voting booth; a parliament in session; a coat of arms; a military parade; a
submarine periscope; a trench from the war; a minefield warning; a prison corridor; a police line-up; a fingerprint; a
passport photo; a job interview; an org chart; a business card; a conference badge; a patent drawing; stock market
crash; inflation rate; mortgage interest; double-entry bookkeeping; import duty; supply chain delay; machine learning
lecture; quantum chromodynamics; photosynthesis; continental drift; the French revolution; baroque architecture;
existential philosophy; the subjunctive mood; a legal disclaimer; terms and conditions; organic chemistry homework; a
differential equation; the Pythagorean theorem; source code in an editor; a database schema; a network cable; a router
with antennas; a hard disk without its case; a printer jam; a projector screen; a laminated name tag; a magnifier over
a stamp album; a coin collection; a beer mat; a snow globe; a lava lamp; a grandfather clock; a chandelier in a
ballroom; a bunk bed; an air mattress; a futon; a rolled-up carpet; wallpaper samples; a paint colour chart; parquet
flooring; a brick oven; a garden gnome; a lawn sprinkler; a leaf blower; a chainsaw; a wheelbarrow; a rain barrel; a
gutter full of leaves; a weather vane; a windsock; a buoy; a canal lock; a houseboat; a rowing machine; a climbing
wall; a trampoline; a velodrome; a shot putter; a hammer thrower; a sumo match; a rugby scrum; a polo pony; a
greyhound race; a sidecar; a hovercraft; a Zeppelin; a funicular railway; a cable car station; a caravan site; a
camping stove; a sleeping bag; a compass rose; a hiking trail sign; a summit cross; a rope bridge; a ski wax bench; a
curling rink; an igloo; a dog sled; a reindeer herd; a nativity scene; a May pole; a carnival float; a bull run; a
flea market stall; an auction room; a printing press; newspaper on a park bench; a telephone directory; a fax machine;
a cassette tape; a film negative; a darkroom; a tripod; a green screen; a make-up table; a tailor's dummy; a shoe
repair shop; a barber pole; a nail salon; a tattoo studio; an acupuncture chart; a yoga retreat; an MRI scanner; a
wheelchair ramp; a guide for the blind; a sign in braille; a stethoscope; a plaster cast; crutches in the corner; a
walking frame; an incubator; a vaccine passport
"""
"""Things, places, doings and notions, of which any gallery lacks most."""
MOST_PHRASES, GIBBERISH = 120, 40
"""How many of them are asked for at most; how many texts of gibberish."""
LETTERS, CONSONANTS, VOWELS = "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnprstvz", "aeiou"
COMMON = """
a an and are as at by for from full his her i in is it its my of off old on one out over the their to up with without
"""
"""Words that say nothing of what is meant."""


def bank(count: int) -> list[str]:
    """The first so many phrases that people say of pictures, and words of them; always the same ones."""
    lines = BANK.read_text(encoding="utf-8").splitlines()
    phrases = [line for line in lines if not line.startswith("#")]
    said = Counter(word for phrase in phrases for word in sorted(content_words(phrase)) if len(word) >= WORD_LETTERS)
    words = [word for word, _ in said.most_common(round(WORD_SHARE * count))]
    return words + phrases[: count - len(words)]


def absent_phrases(texts: Iterable[str], seed: int = 0) -> list[str]:
    """Phrases that have no word in common with any of the texts, and gibberish behind them; always the same."""
    known = _words(" ".join(texts))
    phrases = [" ".join(phrase.split()) for phrase in PHRASES.split(";")]
    others = [phrase for phrase in phrases if known.isdisjoint(_words(phrase))]
    draws = random.Random(seed)
    return draws.sample(others, min(len(others), MOST_PHRASES)) + [_gibberish(draws) for _ in range(GIBBERISH)]


def content_words(text: str) -> set[str]:
    """The words of a text but for COMMON ones."""
    return set(re.findall(r"\w+", text.casefold())) - set(COMMON.split())


def _words(text: str) -> set[str]:
    """The same, in the singular where an s makes them more."""
    return {word.removesuffix("s") for word in content_words(text)}


def _gibberish(draws: random.Random) -> str:
    """Letters in a row, syllables, or two of either."""
    if draws.random() < 0.3:
        return f"{_gibberish(draws)} {_gibberish(draws)}"[:40]
    if draws.random() < 0.5:
        return "".join(draws.choices(LETTERS, k=draws.randint(3, 10)))
    return "".join(draws.choice(CONSONANTS) + draws.choice(VOWELS) for _ in range(draws.randint(2, 4)))
