CREATE TABLE students (
  id integer PRIMARY KEY,
  name text,
  age integer,
  city text,
  grade real
);
INSERT INTO students VALUES
  (1, 'Anna', 19, 'Oslo', 2.5),
  (2, 'Ben', 22, 'Paris', 3.1),
  (3, 'Carla', 21, 'Oslo', 1.7),
  (4, 'David', 24, 'Rome', 2.2),
  (5, 'Emma', 20, 'Paris', 3.6),
  (6, 'Felix', 22, 'Oslo', 2.9),
  (7, 'Grace', 19, 'Rome', 1.3);
CREATE TABLE courses (
  id integer PRIMARY KEY,
  title text,
  subject text,
  credits integer
);
INSERT INTO courses VALUES
  (1, 'Logic', 'mathematics', 6),
  (2, 'Winter', 'poetry', 4),
  (3, 'Introduction', 'physics', 8),
  (4, 'The Sea', 'biology', 4),
  (5, 'Numbers', 'mathematics', 8);
CREATE TABLE enrolments (
  student_id integer REFERENCES students(id),
  course_id integer REFERENCES courses(id),
  mark real,
  year integer
);
INSERT INTO enrolments VALUES
  (1, 1, 81.5, 2021),
  (1, 3, 64.0, 2021),
  (2, 1, 55.5, 2022),
  (2, 2, 72.0, 2021),
  (3, 3, 90.0, 2022),
  (4, 5, 47.5, 2023),
  (5, 2, 88.0, 2023),
  (6, 1, 61.0, 2023),
  (6, 5, 93.5, 2022);
