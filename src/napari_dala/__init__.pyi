"""The public names, and where they are; `__init__.py` loads each when it is used."""

from .analysis.control import RunControl as RunControl
from .analysis.engine import analyze as analyze
from .errors import (
    AnnotationError as AnnotationError,
    BundleError as BundleError,
    ClusterError as ClusterError,
    DalaError as DalaError,
    DatasetError as DatasetError,
    FetchError as FetchError,
    JobError as JobError,
    ReadingError as ReadingError,
    SlideError as SlideError,
)
from .inference.predictor import Prediction as Prediction, Predictor as Predictor
from .model.bundle import ModelBundle as ModelBundle, load_model as load_model
from .model.bundle_file import Bundle as Bundle, Replay as Replay
from .model.card import ClassInfo as ClassInfo, ModelCard as ModelCard, TrunkSource as TrunkSource
from .model.dalaresnet import DALAResNet50 as DALAResNet50
from .model.familiarity import Familiarity as Familiarity
from .model.gradcam import grad_cam as grad_cam
from .model.head import HeadNetwork as HeadNetwork
from .model.threshold import (
    DynamicThreshold as DynamicThreshold,
    MapLevel as MapLevel,
    ThresholdedMap as ThresholdedMap,
)
from .model.trunks.network import TrunkNetwork as TrunkNetwork
from .results.analysis import Analysis as Analysis, Spot as Spot, Summary as Summary
from .results.chunks import DamagedChunk as DamagedChunk
from .results.progress import Progress as Progress
from .results.request import AnalysisRequest as AnalysisRequest
from .results.store import AnalysisStore as AnalysisStore, Setting as Setting
from .results.tile_results import (
    RescoredTiles as RescoredTiles,
    TileArrays as TileArrays,
    TileResults as TileResults,
    TileStatus as TileStatus,
)
from .slide import Level as Level, Slide as Slide, open_slide as open_slide
from .slide.base import SlideFacts as SlideFacts
from .slide.profile import ColourProfile as ColourProfile
from .slide.tiles import Measured as Measured, TileGrid as TileGrid
from .training.epochs import Epoch as Epoch
from .training.finetune.finetune import finetune as finetune
from .training.finetune.job import (
    FinetuneSettings as FinetuneSettings,
    Finished as Finished,
    Prepared as Prepared,
    SlideExamples as SlideExamples,
)

__version__: str
