"""Whether a model can be had is found out beside the page, and said in one line."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from gcr_core.errors import HubError
from gcr_core.ui import model_reach
from gcr_core.ui.model_reach import ModelReach
from tests.patience import until

NAME, SHIPPED = "owner/model", "checkpoints/gcr-mini"


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers with what `answer` raises, and counts who asks."""
    hub = SimpleNamespace(asked=[], answer=None)

    def model_info(self, name, timeout):
        hub.asked.append(name)
        if hub.answer:
            raise hub.answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return hub


def told(reach, name=NAME):
    until(lambda: reach.lacks(name, SHIPPED) is not None)
    return reach.lacks(name, SHIPPED)


def test_a_folder_is_here_and_no_hub_is_asked_for_it(hub, tmp_path):
    reach = ModelReach()
    assert reach.lacks(str(tmp_path), SHIPPED) == reach.lacks(SHIPPED, SHIPPED) == ""
    assert hub.asked == []
    with pytest.raises(HubError, match="no folder here and no hub id"):
        reach.lacks("nowhere", SHIPPED)


def test_a_model_that_the_hub_has_can_be_had_and_is_asked_for_once(hub, monkeypatch):
    monkeypatch.setattr(model_reach, "AGAIN_SECONDS", 0)
    reach = ModelReach()
    assert told(reach) == ""
    assert reach.lacks(NAME, SHIPPED) == "" and hub.asked == [NAME]


def test_a_hub_that_does_not_answer_is_one_line_and_is_asked_again_later(hub, monkeypatch):
    hub.answer = OSError("no route to /etc/hosts\nand more")
    reach = ModelReach()
    assert told(reach) == "model cannot be downloaded: the Hugging Face hub cannot be reached from here."
    assert reach.lacks(NAME, SHIPPED) and len(hub.asked) == 1
    hub.answer = None
    monkeypatch.setattr(model_reach, "AGAIN_SECONDS", 0)
    until(lambda: reach.lacks(NAME, SHIPPED) == "")


def test_a_model_that_the_hub_lacks_is_named(hub):
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    hub.answer = RepositoryNotFoundError("404", response=response)
    assert told(ModelReach()) == "The Hugging Face hub has no model 'owner/model', or none that is public."
