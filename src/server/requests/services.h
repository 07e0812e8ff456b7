/* What the APIs' handlers work with; each part is borrowed from server.c. */
#ifndef IMAGINED_SERVER_REQUESTS_SERVICES_H
#define IMAGINED_SERVER_REQUESTS_SERVICES_H

#include "queue/queue_manager.h"
#include "server/http/http.h"
#include "server/pictures/input_store.h"
#include "server/pictures/picture_store.h"
#include "server/pictures/previews.h"
#include "server/pictures/transcoder.h"
#include "server/requests/submissions.h"
#include "server/requests/uploads.h"
#include "server/requests/waits.h"
#include "server/resources/catalog.h"
#include "server/resources/machine_figures.h"
#include "server/tasks/dispatch.h"
#include "server/tasks/events.h"
#include "server/tasks/idempotency.h"
#include "server/tasks/task_keeper.h"
#include "server/tasks/watches.h"
#include "server/tasks/webhooks.h"

typedef struct services {
    loop *loop;
    queue_manager *queue;
    dispatch *dispatch;
    catalog *catalog;
    picture_store *pictures;
    input_store *inputs;
    uploads *uploads;
    transcoder *transcoder;
    previews *previews;
    task_keeper *keeper;
    engine_profiles *profiles;
    submissions *submissions;
    waits *waits;
    watches *watches;
    events *events;
    webhooks *webhooks;
    idempotency *idempotency;
    struct comfy *comfy; /* server/api/comfy.h */
    machine_figures *machine;
    int vram_state; /* of engine/vram_manager, as it was shown last: it falls late */
    const http_server *http;
} services;

#endif
