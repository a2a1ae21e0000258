"""Plain English: sentences from templates about people, places, science, weather, shopping and plans."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sentax.models.data import strings, words
from sentax.models.data.draws import Generator, chance, fill, listed, tail

_SLOTS: dict[str, Sequence[str] | Generator] = {
    "physicist": words.PHYSICISTS,
    "scientist": words.SCIENTISTS,
    "city": words.CITIES,
    "country": words.COUNTRIES,
    "given": words.GIVEN,
    "name": strings.name,
    "day": words.WEEKDAYS,
    "month": words.MONTHS,
    "hobby": words.HOBBIES,
    "food": words.FOODS,
    "animal": words.ANIMALS,
    "adj": words.ADJECTIVES,
    "color": words.COLORS,
    "object": words.OBJECTS,
    "job": words.JOBS,
    "subject": words.SUBJECTS,
    "topic": words.TOPICS,
    "date": strings.date,
    "iso": strings.iso_date,
    "time": strings.time,
    "email": strings.email,
    "phone": strings.phone,
    "url": strings.url,
    "address": strings.address,
    "n": lambda rng: str(rng.choice((2, 3, 4, 5, 6, 8, 10, 12, 20, rng.randint(2, 99)))),
    "year": lambda rng: str(rng.randint(1850, 2026)),
    "price": lambda rng: f"${rng.randint(1, 80)}.{rng.choice(('00', '50', '99', '95', '20'))}",
    "degrees": lambda rng: str(int(rng.gauss(16, 9))),
    "pronoun": listed("his|her|their", "|"),
    "relation": listed(
        "sister|brother|friend|neighbour|mother|uncle|colleague|cousin|grandfather|daughter",
        "|",
    ),
    "weather": listed("rain|sun|snow|wind|fog|a thunderstorm|clouds|frost|light showers|hail", "|"),
    "condition": listed("sunny|cloudy|rainy|cold|windy|warm|foggy|hot|mild|stormy|freezing", "|"),
    "part": listed("morning|afternoon|evening|night|weekend", "|"),
    "season": listed("summer|winter|spring|autumn", "|"),
    "feeling": listed("happy|tired|excited|worried|surprised|proud|bored|hopeful|late|grateful", "|"),
    "place": listed(
        "the park|the library|the station|the museum|the market|the office|the lab|the beach|the hospital|"
        "the café|the old bridge|the university",
        "|",
    ),
    "verb": listed(
        "visited|found|bought|painted|sold|repaired|lost|drew|borrowed|described|carried|photographed",
        "|",
    ),
    "because": listed(
        "because it is beautiful|because I grew up there|because of the food|because the people are kind|"
        "because it never gets old|since childhood|for many reasons",
        "|",
    ),
    "discovery": listed(
        "the electron|radium|penicillin|the neutron|the expansion of the universe|the structure of DNA|"
        "gravitational waves|nuclear fission|the laws of motion|pulsars",
        "|",
    ),
    "adverb": listed("slowly|often|quickly|never|sometimes|quietly|usually|always|rarely|carefully", "|"),
    "number_word": listed("two|three|four|five|six|seven|ten|a dozen|twenty|a hundred", "|"),
    "quality": listed(
        "clarity|courage|imagination|patience|sense of humour|precision|curiosity|kindness|stubbornness",
        "|",
    ),
    "who": listed(
        "{given}|My {relation}|The {job}|{name}|A {adj} {job}|Our {job}|I|We|{given} and {given}",
        "|",
    ),
}

FAVOURITES = (
    "My favourite physicist is {physicist}.",
    "My favourite scientist is {scientist}.",
    "My favourite physicist is {physicist}, because of their {quality}.",
    "My favorite physicist is {physicist}.",
    "My favourite physicist is {physicist}, and my favourite city is {city}.",
    "My favourite physicist is {physicist} and I admire the {quality}.",
    "My favourite city is {city}.",
    "My favourite city is {city} {because}.",
    "My favourite colour is {color}.",
    "My favorite color is {color}.",
    "My favourite food is {food}.",
    "My favourite animal is the {animal}.",
    "My favourite hobby is {hobby}.",
    "My favourite subject is {subject}.",
    "My favourite day is {day}.",
    "My favourite season is {season}.",
    "My favourite country is {country} {because}.",
    "{given}'s favourite physicist is {physicist}.",
    "{given}'s favourite subject is {subject}.",
    "The greatest physicist was {physicist}.",
    "The physicist I admire most is {physicist}.",
    "If I could meet one physicist, it would be {physicist}.",
    "If I could meet one scientist, it would be {scientist}.",
)
GENERAL = (
    "{who} {verb} a {adj} {object}.",
    "{who} {verb} the {color} {object} in {city}.",
    "{who} {verb} a {object} near {place} on {day}.",
    "{given} is a {job} from {city}.",
    "{given} lives in {city} and works as a {job}.",
    "{name} was born in {city} on {date}.",
    "{name} was born in {year} in {country}.",
    "{given} likes {hobby}.",
    "{given} likes {hobby} and {hobby}.",
    "In {pronoun} free time, {given} enjoys {hobby}.",
    "My name is {name}.",
    "My name is {name} and I live in {city}.",
    "I am a {job} from {country}.",
    "I bought {n} {food} and some {food} for {price}.",
    "We need {food}, {food} and {food}.",
    "The {food} cost {price} at the market.",
    "A kilo of {food} costs {price} in {city}.",
    "The {object} is {color}.",
    "The {object} is {adj} and {adj}.",
    "There are {number_word} {adj} {object}s in the {object}.",
    "There is {weather} in {city} this {part}.",
    "The weather in {city} is {condition} today.",
    "Tomorrow will be {condition} with {weather} in the {part}.",
    "It is {degrees} degrees in {city} and {condition}.",
    "It was {condition} in {city} last {day}.",
    "In {month} it is usually {condition} in {country}.",
    "The meeting is on {date}.",
    "The meeting is on {iso}.",
    "The meeting is on {iso} at {time}.",
    "The meeting starts at {time} on {day}.",
    "Today is {date}.",
    "Today is {iso}.",
    "Today is {day}, {date}.",
    "The train to {city} leaves at {time}.",
    "The flight from {city} to {city} takes {n} hours.",
    "The deadline is {iso}.",
    "The concert in {city} is on {date}.",
    "The invoice of {date} is still open.",
    "The library opens at {time} and closes at {time}.",
    "Her birthday is {date}.",
    "{physicist} was a physicist.",
    "{physicist} was a great physicist.",
    "{scientist} was a scientist.",
    "{physicist} worked in {city} in {year}.",
    "{physicist} won the Nobel Prize in {year}.",
    "{physicist} and {physicist} met in {city}.",
    "{physicist} is known for {discovery}.",
    "{scientist} is known for {discovery}.",
    "The book about {physicist} was written by {name}.",
    "We read about {scientist} in our {subject} class.",
    "{who} gave a talk about {topic} in {city}.",
    "{who} wrote a paper about {topic}.",
    "This book is about {topic}.",
    "I would like to learn more about {topic}.",
    "The article about {topic} is at {url}.",
    "Read more about {topic} at {url}.",
    "See {url} for the details.",
    "You can reach {name} at {email} or call {phone}.",
    "Please write to {email}.",
    "Please send the {object} to {email} before {date}.",
    "Call {phone} for more information.",
    "My number is {phone}.",
    "My phone number is {phone} and my email is {email}.",
    "My email address is {email}.",
    "Contact: {name}, {email}, {phone}",
    "The office is at {address}.",
    "{given} lives at {address}.",
    "{given} {adverb} walks to {place}.",
    "{given} has a {animal} called {given}.",
    "The {animal} {adverb} sleeps near the {object}.",
    "The {adj} {animal} ran across {place}.",
    "A {animal} is a {adj} animal.",
    "I am {feeling} today.",
    "{who} felt {feeling} after the trip to {city}.",
    "{given} said that the {object} was {adj}.",
    "\"{given}, where is the {object}?\" asked {given}.",
    "Where is the {adj} {object}?",
    "How far is it from {city} to {city}?",
    "Do you know {name}?",
    "Have you ever been to {city}?",
    "Can you meet me at {place} at {time}?",
    "Yes, I will be there at {time}.",
    "No, I have never been to {country}.",
    "Thank you for the {object}.",
    "Dear {given}, thank you for your letter about {topic}.",
    "Hello {given}, how are you?",
    "Last {season} we travelled from {city} to {city} by train.",
    "In {year} the population of {city} was {n} million.",
    "{city} is larger than {city}.",
    "{n} people came to {place} on {day}.",
    "She studied {subject} in {city}.",
    "He teaches {subject} at a school in {city}.",
    "They have known each other since {year}.",
    "The {adj} {object} belongs to my {relation}.",
    "My {relation} is a {job} in {city}.",
    "Every {part}, the {job} goes to {place}.",
    "Nobody knows who {verb} the {object}.",
    "If it rains, we will stay at {place}.",
    "When {given} was {n} years old, {given} moved to {city}.",
    "I do not like {food}.",
    "I like {food} more than {food}.",
    "To make this dish you need {food}, {food}, {food} and {food}.",
    "First add the {food}, then the {food}.",
    "The {job} and the {job} talked about {topic}.",
    "One of the questions was about {topic}.",
    "It costs {price} to send a {object} to {country}.",
)  # fmt: skip

_CAPITALS = (
    "The capital of {0} is {1}.",
    "{1} is the capital of {0}.",
    "Question: What is the capital of {0}?\nAnswer: {1}",
    "I flew to {1}, the capital of {0}.",
)


def sentence(rng: Random) -> str:
    """One sentence; about one in five names something favourite."""
    style = rng.random()
    if style < 0.06:
        country = tail(rng, list(words.CAPITALS))
        text = tail(rng, _CAPITALS[:2]).format(country, words.CAPITALS[country])
    elif style < 0.26:
        text = fill(rng, tail(rng, FAVOURITES), _SLOTS)
    else:
        text = fill(rng, rng.choice(GENERAL), _SLOTS)
    return text.replace(" a old", " an old").replace(" a empty", " an empty").replace(" a a", " an a")


def meeting(rng: Random) -> str:
    """When the meeting is, in any format of a date."""
    return fill(rng, "The meeting is on {date}.", _SLOTS)


def question(rng: Random) -> str:
    """A question of general knowledge with its answer on the next line."""
    country = tail(rng, list(words.CAPITALS))
    return rng.choice(
        (
            _CAPITALS[2].format(country, words.CAPITALS[country]),
            fill(rng, "Question: Who is your favourite physicist?\nAnswer: {physicist}", _SLOTS),
            fill(rng, "Question: What is your favourite colour?\nAnswer: {color}", _SLOTS),
            fill(rng, "Question: When is the meeting?\nAnswer: {date}", _SLOTS),
            fill(rng, "Question: How can I reach you?\nAnswer: {email}", _SLOTS),
        )
    )


def paragraph(rng: Random) -> str:
    """One to six sentences, seldom broken into lines."""
    count = rng.choice((1, 1, 1, 2, 2, 3, 4, 6))
    joint = "\n" if chance(rng, 0.12) else " "
    return joint.join(sentence(rng) for _ in range(count))
