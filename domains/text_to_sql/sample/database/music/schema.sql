CREATE TABLE singers (
  singer_id integer PRIMARY KEY,
  name text,
  country text,
  age integer
);
INSERT INTO singers VALUES
  (1, 'Alice', 'France', 31),
  (2, 'Boris', 'Norway', 45),
  (3, 'Clara', 'France', 27),
  (4, 'Daniel', 'Japan', 52),
  (5, 'Elena', 'Norway', 38),
  (6, 'Frank', 'Chile', 24);
CREATE TABLE concerts (
  concert_id integer PRIMARY KEY,
  title text,
  year integer,
  city text,
  attendance integer
);
INSERT INTO concerts VALUES
  (1, 'River', 2012, 'Paris', 1200),
  (2, 'Home', 2015, 'Oslo', 800),
  (3, 'Night', 2015, 'Paris', 2500),
  (4, 'Winter', 2019, 'Tokyo', 4000),
  (5, 'The Sea', 2021, 'Oslo', 950);
CREATE TABLE songs (
  song_id integer PRIMARY KEY,
  title text,
  singer_id integer REFERENCES singers(singer_id),
  length real
);
INSERT INTO songs VALUES
  (1, 'Home', 1, 3.4),
  (2, 'River', 1, 4.1),
  (3, 'Night', 2, 2.8),
  (4, 'Winter', 3, 3.9),
  (5, 'Logic', 4, 5.2),
  (6, 'Summer', 3, 3.1),
  (7, 'Clouds', 2, 6.0);
