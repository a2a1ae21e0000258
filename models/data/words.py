"""Word lists that several generators share; the first entries are the most probable."""

from __future__ import annotations

from sentax.models.data.draws import listed

GIVEN = listed(
    "Ana Marie James Maria David Elena John Sofia Peter Laura Daniel Emma Thomas Julia Michael Anna "
    "Robert Nina Lucas Clara Ahmed Priya Wei Yuki Omar Fatima Carlos Ingrid Ivan Chloe Samuel Aisha Hugo "
    "Mei Leo Olga Paulo Zara Noah Greta Kofi Amara Ravi Hana Felix Iris Oscar Nadia Victor Lena Arthur "
    "Rosa Simon Vera Martin Alice Diego Ruth Kenji Stella Jonas Miriam Tariq Freya Andre Celia Boris "
    "Dana Emil Gloria Henry Ines Jorge Karin Liam Mona Nora Otto Pavel Quinn Rita Stefan Tess Uma Viktor "
    "Wanda Xavier Yara Zeno Björn Zoë José Renée Sinéad"
)

FAMILY = listed(
    "Silva Smith Garcia Miller Chen Novak Rossi Kim Patel Johnson Müller Tanaka Okafor Larsen Brown "
    "Lopez Singh Dubois Ivanova Jones Nguyen Costa Weber Haddad Taylor Moreau Suzuki Wilson Kowalski "
    "Santos Ali Berg Clark Fischer Moretti Adeyemi Park Lewis Sato Hansen Young Petrov Walker Mendes "
    "Khan Green Lindqvist Baker Osei Hughes Yamada Fraser Bianchi Wagner Cohen Murphy Ortiz Dvorak "
    "Schmidt Bell Horvat Ward Gomez Lund Mbeki Cooper Farouk Keller Reyes Vogel Nakamura Foster Lindgren "
    "Abbas Becker Castro Duarte Ekström O'Brien Van-Dijk Fernández"
)

PHYSICISTS = listed(
    "Marie Curie|Albert Einstein|Richard Feynman|Isaac Newton|Niels Bohr|Galileo Galilei|Lise Meitner|"
    "Emmy Noether|Stephen Hawking|Paul Dirac|Enrico Fermi|Max Planck|Erwin Schrödinger|Werner Heisenberg|"
    "Michael Faraday|James Clerk Maxwell|Chien-Shiung Wu|Wolfgang Pauli|Ernest Rutherford|"
    "Maria Goeppert Mayer|Ludwig Boltzmann|Hendrik Lorentz|Vera Rubin|Abdus Salam|"
    "Subrahmanyan Chandrasekhar|Robert Oppenheimer|Max Born|Lev Landau|Jocelyn Bell Burnell|"
    "Heinrich Hertz|Nikola Tesla|Alessandro Volta|Satyendra Nath Bose|Hideki Yukawa|Joseph Fourier|"
    "J. J. Thomson|Irène Joliot-Curie|Donna Strickland|Murray Gell-Mann|Freeman Dyson",
    "|",
)

SCIENTISTS = listed(
    "Charles Darwin|Ada Lovelace|Rosalind Franklin|Alan Turing|Louis Pasteur|Carl Sagan|"
    "Barbara McClintock|Dmitri Mendeleev|Grace Hopper|Gregor Mendel|Rachel Carson|Alexander Fleming|"
    "Katherine Johnson|Johannes Kepler|Dorothy Hodgkin|Antoine Lavoisier|Jane Goodall|Leonhard Euler|"
    "Hypatia|Carl Friedrich Gauss|Sofia Kovalevskaya|Srinivasa Ramanujan|Edwin Hubble|Caroline Herschel|"
    "Tu Youyou|Linus Pauling|Alfred Wegener|Mary Anning|Ibn al-Haytham|Francis Crick|Jennifer Doudna|"
    "Thomas Bayes|Andrey Kolmogorov",
    "|",
)

CITIES = [
    *listed(
        "London Paris Berlin Madrid Rome Tokyo Lisbon Vienna Boston Oslo Prague Dublin Chicago Toronto "
        "Sydney Cairo Mumbai Seoul Nairobi Lima Athens Helsinki Zurich Munich Porto Seville Kyoto Osaka "
        "Lagos Bogota Santiago Montreal Geneva Warsaw Budapest Istanbul Bergen Lyon Turin Hamburg Denver "
        "Seattle Austin Delhi Hanoi Manila Accra Quito Tunis Marseille Valencia Naples Glasgow Cardiff "
        "Utrecht Ghent Basel Graz Riga Vilnius Tallinn"
    ),
    "New York",
    "San Francisco",
    "Cape Town",
    "Buenos Aires",
    "Mexico City",
    "Hong Kong",
    "São Paulo",
    "Zürich",
]

COUNTRIES = listed(
    "France Germany Spain Italy Japan Portugal Norway Brazil Canada India Egypt Kenya Peru Greece "
    "Finland Switzerland Poland Hungary Turkey Austria Ireland Chile Ghana Mexico Sweden Denmark Vietnam "
    "Morocco Iceland Nepal"
)

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Portugal": "Lisbon",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Finland": "Helsinki",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Peru": "Lima",
    "Kenya": "Nairobi",
    "Egypt": "Cairo",
    "Hungary": "Budapest",
    "Poland": "Warsaw",
    "Chile": "Santiago",
    "Vietnam": "Hanoi",
    "Latvia": "Riga",
    "Canada": "Ottawa",
    "Australia": "Canberra",
    "Brazil": "Brasilia",
}

WEEKDAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")

HOBBIES = listed(
    "reading|hiking|cooking|painting|swimming|chess|photography|gardening|playing the piano|cycling|"
    "climbing|bird watching|running|baking bread|playing the guitar|knitting|sailing|pottery|skiing|"
    "singing in a choir|collecting stamps|astronomy|dancing|fishing|solving crosswords|woodworking|"
    "learning languages|yoga",
    "|",
)

FOODS = listed(
    "apples bread milk eggs cheese tomatoes rice coffee tea bananas pasta potatoes onions carrots butter "
    "chicken fish lemons yogurt honey olives chocolate spinach garlic mushrooms oranges pears beans "
    "flour sugar salt almonds"
)

ANIMALS = listed(
    "dog cat horse rabbit parrot owl fox bear dolphin tortoise sparrow goat hedgehog otter penguin whale"
)
ADJECTIVES = listed(
    "good small new old quiet beautiful bright simple long warm strange famous large difficult cheap "
    "clear friendly careful early wooden heavy gentle empty curious modern useful ancient rare "
    "comfortable narrow"
)
COLORS = listed(
    "red blue green black white yellow orange purple grey brown pink silver violet turquoise crimson navy"
)
OBJECTS = listed(
    "book table chair lamp bicycle car house door window garden letter phone camera computer clock bag "
    "coat map bridge train piano guitar bottle key box picture boat ladder telescope umbrella notebook "
    "mirror basket violin"
)
JOBS = listed(
    "teacher doctor engineer nurse writer chemist lawyer farmer baker student physicist journalist "
    "architect pilot musician carpenter librarian biologist painter plumber translator programmer "
    "historian astronomer"
)
SUBJECTS = listed(
    "physics chemistry history mathematics biology music geography literature statistics philosophy "
    "economics astronomy linguistics geology logic"
)
TOPICS = listed(
    "language models|the weather|climate change|black holes|old maps|particle filters|probability|"
    "the stock market|quantum mechanics|Roman history|jazz|volcanoes|protein folding|bridges|"
    "neural networks|coral reefs|elections|medieval art|Bayesian inference|robotics|tides|"
    "public transport",
    "|",
)
DOMAINS = listed(
    "example.com example.org gmail.com mail.net example.net uni.edu outlook.com acme.io post.de "
    "lab.ac.uk northwind.co city.gov company.fr sentry.dev blue-sky.org inbox.jp physics.ox.ac.uk "
    "openlab.eu yahoo.com"
)
