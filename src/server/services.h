/* What the APIs' handlers work with; each part is borrowed from server.c. */
#ifndef IMAGINED_SERVER_SERVICES_H
#define IMAGINED_SERVER_SERVICES_H

#include "queue/queue_manager.h"
#include "server/catalog.h"
#include "server/dispatch.h"
#include "server/events.h"
#include "server/http.h"
#include "server/idempotency.h"
#include "server/input_store.h"
#include "server/machine_figures.h"
#include "server/picture_store.h"
#include "server/previews.h"
#include "server/submissions.h"
#include "server/task_keeper.h"
#include "server/transcoder.h"
#include "server/uploads.h"
#include "server/waits.h"
#include "server/watches.h"
#include "server/webhooks.h"

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
