"""Questions about a floor that SQL over its store answers. A new one is a row in one of the three tables."""

from factory.floor.questions.about_energy import ENERGY
from factory.floor.questions.about_lines import LINES
from factory.floor.questions.about_operator import OPERATOR
from factory.floor.questions.question import Question

QUESTIONS: dict[str, Question] = {question.name: question for question in (*LINES, *ENERGY, *OPERATOR)}

__all__ = ["QUESTIONS", "Question"]
