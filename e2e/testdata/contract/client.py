"""Lists, creates, changes and deletes a route with the client that openapi-python-client has made."""

import os

from gateway_client import AuthenticatedClient
from gateway_client.api.route import create_route, delete_route, get_route, list_routes, patch_route, update_route
from gateway_client.models import (
    CreateRouteResponse,
    DeleteRouteResponse,
    DirectResponseInput,
    ErrorResponse,
    GetRouteResponse,
    ListRoutesResponse,
    PatchRouteResponse,
    RouteInput,
    RoutePatch,
    UpdateRouteResponse,
)


def reply(response, status, kind):
    assert response.status_code == status, (response.status_code, response.content)
    assert isinstance(response.parsed, kind), response.parsed
    return response.parsed


def main():
    client = AuthenticatedClient(
        base_url=os.environ["GATEWAY"], token=os.environ["TOKEN"], raise_on_unexpected_status=True
    )
    before = reply(list_routes.sync_detailed(client=client), 200, ListRoutesResponse)
    assert before.success is True and before.meta.total == len(before.data)

    wish = RouteInput(
        name="python", path="/python/*", methods=["GET"], direct_response=DirectResponseInput(status=200, body="hello")
    )
    created = create_route.sync_detailed(client=client, body=wish, gateway_message="from python")
    route = reply(created, 201, CreateRouteResponse).data
    assert created.headers["Location"] == "/api/v1/config/routes/" + route.id and created.headers["ETag"] == '"1"'
    assert route.enabled is True and route.direct_response.body == "hello" and route.created_at.tzinfo is not None
    error = reply(create_route.sync_detailed(client=client, body=wish), 409, ErrorResponse).error
    assert error.code == "ALREADY_EXISTS" and error.field == "name" and len(error.details) == 1
    refused = RouteInput(name="no", path="nowhere", service_id="nothing")
    error = reply(create_route.sync_detailed(client=client, body=refused), 422, ErrorResponse).error
    assert {p.field for p in error.details} >= {"path", "service_id"}, error

    patch = RoutePatch(priority=7, methods=None)
    patched = reply(patch_route.sync_detailed("python", client=client, body=patch), 200, PatchRouteResponse).data
    assert patched.priority == 7 and patched.methods == [] and patched.path == "/python/*"

    again = RouteInput.from_dict(patched.to_dict())
    again.path = "/py/*"
    error = reply(update_route.sync_detailed(route.id, client=client, body=again, if_match='"1"'), 412, ErrorResponse)
    assert error.error.current_version == 2
    put = reply(update_route.sync_detailed(route.id, client=client, body=again, if_match='"2"'), 200, UpdateRouteResponse)
    assert put.data.path == "/py/*" and put.data.id == route.id
    found = reply(list_routes.sync_detailed(client=client, path="/py/x", method="GET"), 200, ListRoutesResponse)
    assert [r.name for r in found.data] == ["python"]
    assert reply(get_route.sync_detailed("python", client=client), 200, GetRouteResponse).data == put.data

    reply(delete_route.sync_detailed("python", client=client, version=put.data.version), 200, DeleteRouteResponse)
    error = reply(get_route.sync_detailed("python", client=client), 404, ErrorResponse).error
    assert error.code == "NOT_FOUND"
    print("done")


main()
