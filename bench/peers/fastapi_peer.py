"""A parameter server as one writes it with FastAPI and torch: the peer of adamd over HTTP.

POST /step/ELEMENTS takes the bytes of a float32 gradient and answers with those of the parameter;
POST /json takes and gives the same as JSON. One worker on uvloop and httptools, no access log. The
arguments are the sizes of the parameters.
"""

import socket
import sys
import warnings

import fastapi
import pydantic
import torch
import uvicorn

warnings.filterwarnings("ignore", message="The given buffer is not writable")
JSON_ELEMENTS = 1 << 20
app = fastapi.FastAPI(docs_url=None, redoc_url=None)


def make(elements):
    """A parameter of zeros and its optimizer."""
    param = torch.nn.Parameter(torch.zeros(elements))
    return param, torch.optim.Adam([param], lr=1e-3, fused=True)


def add_route(elements):
    """The route of one size."""
    param, optimizer = make(elements)
    values = param.detach().numpy()

    @app.post(f"/step/{elements}")
    async def step(request: fastapi.Request):
        param.grad = torch.frombuffer(await request.body(), dtype=torch.float32)
        optimizer.step()
        # a copy: uvicorn sends a view in pieces, and another client's step would be in the later ones
        return fastapi.Response(values.tobytes(), media_type="application/octet-stream")


class Gradients(pydantic.BaseModel):
    """What a step takes."""

    grads: dict[str, list[float]]


class Params(pydantic.BaseModel):
    """What a step gives."""

    step: int
    params: dict[str, list[float]]


json_param, json_optimizer = make(JSON_ELEMENTS)


@app.post("/json")
async def json_step(body: Gradients) -> Params:
    """A step in JSON, with FastAPI's own validation and its default response."""
    json_param.grad = torch.tensor(body.grads["w"], dtype=torch.float32)
    json_optimizer.step()
    count = int(json_optimizer.state[json_param]["step"])
    return Params(step=count, params={"w": json_param.tolist()})


def main():
    """Listens, says where, serves until SIGTERM."""
    for elements in sys.argv[1:]:
        add_route(int(elements))
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")  # the fastest loop there is
    uvicorn.Server(config).run(sockets=[listener])


main()
