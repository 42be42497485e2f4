/* px_route.h - inside the room: the route kept with a cached collection. */
#pragma once
struct px_route;
void px_route_free(struct px_route *r); /* NULL is fine */
