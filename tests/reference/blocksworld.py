"""Planetarium's four operators, as other planners and simulators read them."""

DOMAIN_PDDL = """(define (domain blocksworld) (:requirements :strips)
(:predicates (clear ?x) (on-table ?x) (arm-empty) (holding ?x) (on ?x ?y))
(:action pickup :parameters (?o) :precondition (and (clear ?o) (on-table ?o) (arm-empty))
 :effect (and (holding ?o) (not (clear ?o)) (not (on-table ?o)) (not (arm-empty))))
(:action putdown :parameters (?o) :precondition (holding ?o)
 :effect (and (clear ?o) (arm-empty) (on-table ?o) (not (holding ?o))))
(:action stack :parameters (?o ?u) :precondition (and (clear ?u) (holding ?o))
 :effect (and (arm-empty) (clear ?o) (on ?o ?u) (not (clear ?u)) (not (holding ?o))))
(:action unstack :parameters (?o ?u) :precondition (and (on ?o ?u) (clear ?o) (arm-empty))
 :effect (and (holding ?o) (clear ?u) (not (on ?o ?u)) (not (clear ?o)) (not (arm-empty)))))"""
