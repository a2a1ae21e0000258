CREATE TABLE owners (
  owner_id integer PRIMARY KEY,
  first_name text,
  last_name text,
  city text
);
INSERT INTO owners VALUES
  (1, 'Anna', 'Berg', 'Oslo'),
  (2, 'Ben', 'Costa', 'Rome'),
  (3, 'Clara', 'Dubois', 'Paris'),
  (4, 'David', 'Evans', 'Rome'),
  (5, 'Emma', 'Fischer', 'Berlin');
CREATE TABLE pets (
  pet_id integer PRIMARY KEY,
  name text,
  species text,
  age integer,
  weight real,
  owner_id integer REFERENCES owners(owner_id)
);
INSERT INTO pets VALUES
  (1, 'Rex', 'dog', 4, 21.5, 1),
  (2, 'Mia', 'cat', 2, 4.2, 1),
  (3, 'Max', 'dog', 9, 30.0, 2),
  (4, 'Luna', 'rabbit', 1, 1.8, 3),
  (5, 'Kiwi', 'parrot', 12, 0.4, 4),
  (6, 'Bella', 'dog', 6, 12.5, 4),
  (7, 'Tom', 'cat', 11, 5.1, 2);
