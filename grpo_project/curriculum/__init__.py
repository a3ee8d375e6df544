"""Which problem comes next, and when to advance. Imports neither torch nor wandb."""

from grpo_project.curriculum.curriculum import Curriculum
from grpo_project.curriculum.diagnosis import Alarm, GroupResult
from grpo_project.curriculum.progress import Decision
from grpo_project.curriculum.settings import CurriculumSettings, default_curriculum_yaml, load_curriculum
from grpo_project.curriculum.stages import DEFAULT_STAGES, Stage
from grpo_project.curriculum.uniform_source import UniformSource

__all__ = [
    "DEFAULT_STAGES",
    "Alarm",
    "Curriculum",
    "CurriculumSettings",
    "Decision",
    "GroupResult",
    "Stage",
    "UniformSource",
    "default_curriculum_yaml",
    "load_curriculum",
]
