#include "queue/task_database.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "queue/task_row.h"

enum { BUSY_MS = 2000 }; /* a server that was killed a moment ago may still hold the file */

enum { BEGIN, COMMIT, ROLLBACK, PUT_TASK, DELETE_TASK, PUT_PROFILE, PUT_SETTING, DELETE_SETTING, PUT_WEBHOOK, DELETE_WEBHOOK, PUT_GONE, TRIM_GONE, STATEMENTS };

struct task_database {
    char path[PATH_MAX];
    sqlite3 *handle;
    sqlite3_stmt *statements[STATEMENTS];
};

/* Step i brings a database of version i (PRAGMA user_version) to version i + 1. What was released is never changed, only added to. */
static const char *const migrations[][2] = {
    {task_row_schema,
    "CREATE TABLE profiles ("
    " model TEXT NOT NULL, precision TEXT NOT NULL, shape TEXT NOT NULL, batch INTEGER NOT NULL,"
    " peak_bytes INTEGER NOT NULL, reserve_bytes INTEGER NOT NULL,"
    " step_seconds REAL NOT NULL, load_seconds REAL NOT NULL, encode_seconds REAL NOT NULL, decode_seconds REAL NOT NULL,"
    " measured_ms INTEGER NOT NULL, PRIMARY KEY (model, precision, shape, batch)) WITHOUT ROWID;"
    "CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;"},
    {"ALTER TABLE tasks ADD COLUMN webhook TEXT;", /* JSON object: how its telling went */
    "CREATE TABLE webhooks ("
    " id TEXT PRIMARY KEY NOT NULL, task TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL, attempts INTEGER NOT NULL, due_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE gone_webhooks (url TEXT PRIMARY KEY NOT NULL, gone_ms INTEGER NOT NULL) WITHOUT ROWID;"},
};
enum { VERSION = sizeof migrations / sizeof *migrations };

/* --- errors --- */

static error_code code_of(int result, int system) {
    if (system == ENOSPC || system == EDQUOT) return ERROR_DISK_FULL;
    switch (result & 0xFF) {
    case SQLITE_FULL: return ERROR_DISK_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERROR_BUSY;
    case SQLITE_NOMEM: return ERROR_OUT_OF_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERROR_BAD_FILE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: return ERROR_IO;
    default: return ERROR_INTERNAL;
    }
}

/* From the handle's last call; a handle that could not even be made is NULL. */
static bool fault(const task_database *db, const char *action, error *e) {
    int result = sqlite3_extended_errcode(db->handle), kind = result & 0xFF;
    int system = kind == SQLITE_FULL || kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN ? sqlite3_system_errno(db->handle) : 0;
    error_code code = code_of(result, system);
    if (code == ERROR_BUSY)
        return error_set(e, code, "%s is held by another process: is a second server using the same state folder?", db->path);
    return error_set(e, code, "cannot %s %s: %s%s%s", action, db->path, sqlite3_errmsg(db->handle), system != 0 ? ": " : "",
                     system != 0 ? strerror(system) : "");
}

/* --- opening --- */

static bool run(task_database *db, const char *sql, const char *action, error *e) {
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK || fault(db, action, e);
}

static bool prepare(task_database *db, const char *sql, sqlite3_stmt **out, error *e) {
    return sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) == SQLITE_OK || fault(db, "use", e);
}

/* The first column of the first row, as text. */
static bool ask(task_database *db, const char *sql, char *out, size_t capacity, error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db, sql, &s, e)) return false;
    bool ok = sqlite3_step(s) == SQLITE_ROW || fault(db, "read", e);
    const char *text = ok ? (const char *)sqlite3_column_text(s, 0) : NULL;
    snprintf(out, capacity, "%s", text != NULL ? text : "");
    sqlite3_finalize(s);
    return ok;
}

static bool migrate(task_database *db, error *e) {
    char text[32];
    if (!ask(db, "PRAGMA user_version", text, sizeof text, e)) return false;
    int version = atoi(text);
    if (version < 0 || version > VERSION)
        return error_set(
            e, ERROR_UNSUPPORTED,
            "%s was made by a newer version (its tables are of version %d, known here is %d): use that one, or move the file away",
            db->path, version, (int)VERSION);
    for (; version < VERSION; version++) {
        char done[48];
        snprintf(done, sizeof done, "PRAGMA user_version = %d", version + 1);
        bool ok = run(db, "BEGIN IMMEDIATE", "write", e) && run(db, migrations[version][0], "write", e) &&
                  run(db, migrations[version][1], "write", e) && run(db, done, "write", e) && run(db, "COMMIT", "write", e);
        if (ok) continue;
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        return false;
    }
    return true;
}

/* A sound page structure; a file of another kind; one cut short. */
static bool check(task_database *db, error *e) {
    char verdict[200];
    if (!ask(db, "PRAGMA quick_check(1)", verdict, sizeof verdict, e)) return false;
    return strcmp(verdict, "ok") == 0 || error_set(e, ERROR_BAD_FILE, "%s is damaged: %s", db->path, verdict);
}

static bool prepare_all(task_database *db, error *e) {
    static const char *const texts[STATEMENTS] = {
        [BEGIN] = "BEGIN IMMEDIATE",
        [COMMIT] = "COMMIT",
        [ROLLBACK] = "ROLLBACK",
        [PUT_TASK] = task_row_insert,
        [DELETE_TASK] = "DELETE FROM tasks WHERE id = ?",
        [PUT_PROFILE] =
            "INSERT OR REPLACE INTO profiles (model, precision, shape, batch, peak_bytes, reserve_bytes, step_seconds, load_seconds,"
            " encode_seconds, decode_seconds, measured_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        [PUT_SETTING] = "INSERT OR REPLACE INTO settings (key, value) VALUES (?,?)",
        [DELETE_SETTING] = "DELETE FROM settings WHERE key = ?",
        [PUT_WEBHOOK] = "INSERT OR REPLACE INTO webhooks (id, task, url, body, attempts, due_ms) VALUES (?,?,?,?,?,?)",
        [DELETE_WEBHOOK] = "DELETE FROM webhooks WHERE id = ?",
        [PUT_GONE] = "INSERT OR REPLACE INTO gone_webhooks (url, gone_ms) VALUES (?,?)",
        [TRIM_GONE] = "DELETE FROM gone_webhooks WHERE url NOT IN (SELECT url FROM gone_webhooks ORDER BY gone_ms DESC, url LIMIT ?)",
    };
    for (int i = 0; i < STATEMENTS; i++)
        if (!prepare(db, texts[i], &db->statements[i], e)) return false;
    return true;
}

static void close_handle(task_database *db) {
    for (int i = 0; i < STATEMENTS; i++) sqlite3_finalize(db->statements[i]);
    memset(db->statements, 0, sizeof db->statements);
    sqlite3_close(db->handle);
    db->handle = NULL;
}

/* The file is held exclusively: two servers on one state folder would run the same tasks, and the WAL needs no shared memory this way. */
static bool open_handle(task_database *db, error *e) {
    char mode[16];
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(db->path, &db->handle, flags, NULL) != SQLITE_OK) return fault(db, "open", e);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    if (sqlite3_db_readonly(db->handle, "main") == 1) return error_set(e, ERROR_IO, "cannot write %s: the file may only be read", db->path);
    if (!run(db, "PRAGMA locking_mode = EXCLUSIVE", "use", e) || !ask(db, "PRAGMA journal_mode = WAL", mode, sizeof mode, e)) return false;
    if (strcmp(mode, "wal") != 0)
        return error_set(e, ERROR_IO, "cannot use %s: its file system gives no write-ahead log, only '%s'", db->path, mode);
    return run(db, "PRAGMA synchronous = FULL", "use", e) && run(db, "PRAGMA journal_size_limit = 67108864", "use", e) && check(db, e) &&
           migrate(db, e) && prepare_all(db, e);
}

/* Moves the database and what belongs to it aside; never over another file. */
static bool move_aside(const char *path, char moved_to[PATH_MAX], error *e) {
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[PATH_MAX], to[PATH_MAX];
    int n = 0;
    do {
        int size = snprintf(moved_to, PATH_MAX, "%s.damaged-%lld", path, (long long)clock_unix_ms() + n);
        if (size < 0 || size >= PATH_MAX - 8) return error_set(e, ERROR_TOO_LARGE, "the path %s is too long", path);
    } while (file_exists(moved_to) && ++n < 1000);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(from, sizeof from, "%.4080s%s", path, parts[i]);
        snprintf(to, sizeof to, "%.4080s%s", moved_to, parts[i]);
        if (rename(from, to) != 0 && (errno != ENOENT || i == 0)) return error_system(e, "move aside", from);
    }
    return true;
}

bool task_database_open(const char *path, task_database_report *report, task_database **out, error *e) {
    *report = (task_database_report){0};
    task_database *db = calloc(1, sizeof *db);
    if (db == NULL) return error_no_memory(e, "the database of tasks", sizeof *db);
    error why = {0};
    bool ok = snprintf(db->path, sizeof db->path, "%s", path) < (int)sizeof db->path ||
              error_set(&why, ERROR_TOO_LARGE, "the path %s is too long", path);
    ok = ok && open_handle(db, &why);
    if (!ok && why.code == ERROR_BAD_FILE) {
        report->damage = why;
        close_handle(db);
        ok = move_aside(path, report->moved_to, &why) && open_handle(db, &why);
    }
    if (!ok) {
        if (e != NULL) *e = why;
        task_database_close(db);
        return false;
    }
    *out = db;
    return true;
}

void task_database_close(task_database *db) {
    if (db == NULL) return;
    close_handle(db);
    free(db);
}

/* --- reading --- */

bool task_database_read_tasks(task_database *db, const task_database_reader *reader, error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db, task_row_select, &s, e)) return false;
    int result;
    bool ok = true;
    while (ok && (result = sqlite3_step(s)) == SQLITE_ROW) {
        task *t;
        error why = {0};
        if (task_row_read(s, &t, &why)) reader->take(reader->context, t);
        else if (why.code == ERROR_OUT_OF_MEMORY) ok = error_set(e, why.code, "%s", why.text);
        else {
            error_prefix(&why, "%s: ", db->path);
            reader->skip(reader->context, &why);
        }
    }
    if (ok && result != SQLITE_DONE) ok = fault(db, "read", e);
    sqlite3_finalize(s);
    return ok;
}

static void copy_column(char *to, size_t capacity, sqlite3_stmt *s, int column) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    snprintf(to, capacity, "%s", text != NULL ? text : "");
}

bool task_database_read_profiles(task_database *db, void (*take)(void *context, const stored_profile *p), void *context, error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db,
                 "SELECT model, precision, shape, batch, peak_bytes, reserve_bytes, step_seconds, load_seconds, encode_seconds, decode_seconds, measured_ms"
                 " FROM profiles ORDER BY measured_ms",
                 &s, e))
        return false;
    int result;
    while ((result = sqlite3_step(s)) == SQLITE_ROW) {
        stored_profile p = {
            .batch = sqlite3_column_int(s, 3),
            .peak_bytes = (uint64_t)sqlite3_column_int64(s, 4),
            .reserve_bytes = (uint64_t)sqlite3_column_int64(s, 5),
            .step_seconds = sqlite3_column_double(s, 6),
            .load_seconds = sqlite3_column_double(s, 7),
            .encode_seconds = sqlite3_column_double(s, 8),
            .decode_seconds = sqlite3_column_double(s, 9),
            .measured_ms = sqlite3_column_int64(s, 10),
        };
        copy_column(p.model, sizeof p.model, s, 0);
        copy_column(p.precision, sizeof p.precision, s, 1);
        copy_column(p.shape, sizeof p.shape, s, 2);
        take(context, &p);
    }
    bool ok = result == SQLITE_DONE || fault(db, "read", e);
    sqlite3_finalize(s);
    return ok;
}

bool task_database_read_settings(task_database *db, void (*take)(void *context, const char *key, const char *value), void *context,
                                 error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db, "SELECT key, value FROM settings", &s, e)) return false;
    int result;
    while ((result = sqlite3_step(s)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(s, 0), *value = (const char *)sqlite3_column_text(s, 1);
        if (key != NULL && value != NULL) take(context, key, value);
    }
    bool ok = result == SQLITE_DONE || fault(db, "read", e);
    sqlite3_finalize(s);
    return ok;
}

bool task_database_read_webhooks(task_database *db, void (*take)(void *context, const stored_webhook *w), void *context, error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db, "SELECT id, task, url, body, attempts, due_ms FROM webhooks ORDER BY due_ms, id", &s, e)) return false;
    int result;
    while ((result = sqlite3_step(s)) == SQLITE_ROW) {
        const stored_webhook w = {
            .id = (const char *)sqlite3_column_text(s, 0),
            .task = (const char *)sqlite3_column_text(s, 1),
            .url = (const char *)sqlite3_column_text(s, 2),
            .body = (const char *)sqlite3_column_text(s, 3),
            .attempts = sqlite3_column_int(s, 4),
            .due_ms = sqlite3_column_int64(s, 5),
        };
        if (w.id != NULL && w.task != NULL && w.url != NULL && w.body != NULL) take(context, &w);
    }
    bool ok = result == SQLITE_DONE || fault(db, "read", e);
    sqlite3_finalize(s);
    return ok;
}

bool task_database_read_gone_webhooks(task_database *db, void (*take)(void *context, const char *url), void *context, error *e) {
    sqlite3_stmt *s = NULL;
    if (!prepare(db, "SELECT url FROM gone_webhooks ORDER BY gone_ms, url", &s, e)) return false;
    int result;
    while ((result = sqlite3_step(s)) == SQLITE_ROW) {
        const char *url = (const char *)sqlite3_column_text(s, 0);
        if (url != NULL) take(context, url);
    }
    bool ok = result == SQLITE_DONE || fault(db, "read", e);
    sqlite3_finalize(s);
    return ok;
}

/* --- writing --- */

/* Runs a statement whose parameters are bound (or were not, for want of memory) and makes it ready for the next time. */
static bool step(task_database *db, int which, bool bound, error *e) {
    sqlite3_stmt *s = db->statements[which];
    bool ok = bound ? sqlite3_step(s) == SQLITE_DONE || fault(db, "write", e)
                    : error_set(e, ERROR_OUT_OF_MEMORY, "not enough main memory to write to %s", db->path);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return ok;
}

static bool bind_text(sqlite3_stmt *s, int n, const char *text) { return sqlite3_bind_text(s, n, text, -1, SQLITE_TRANSIENT) == SQLITE_OK; }
static bool bind_size(sqlite3_stmt *s, int n, uint64_t size) { return sqlite3_bind_int64(s, n, (int64_t)size) == SQLITE_OK; }
static bool bind_real(sqlite3_stmt *s, int n, double x) { return sqlite3_bind_double(s, n, x) == SQLITE_OK; }

bool task_database_begin(task_database *db, error *e) { return step(db, BEGIN, true, e); }
bool task_database_commit(task_database *db, error *e) { return step(db, COMMIT, true, e); }

void task_database_rollback(task_database *db) {
    /* Some failures have undone everything by themselves. */
    if (sqlite3_get_autocommit(db->handle) == 0) step(db, ROLLBACK, true, NULL);
}

bool task_database_put_task(task_database *db, const task *t, error *e) {
    return step(db, PUT_TASK, task_row_bind(db->statements[PUT_TASK], t), e);
}

bool task_database_delete_task(task_database *db, const char *id, error *e) {
    return step(db, DELETE_TASK, bind_text(db->statements[DELETE_TASK], 1, id), e);
}

bool task_database_put_profile(task_database *db, const stored_profile *p, error *e) {
    sqlite3_stmt *s = db->statements[PUT_PROFILE];
    bool bound = bind_text(s, 1, p->model) && bind_text(s, 2, p->precision) && bind_text(s, 3, p->shape) &&
                 sqlite3_bind_int(s, 4, p->batch) == SQLITE_OK && bind_size(s, 5, p->peak_bytes) && bind_size(s, 6, p->reserve_bytes) &&
                 bind_real(s, 7, p->step_seconds) && bind_real(s, 8, p->load_seconds) && bind_real(s, 9, p->encode_seconds) &&
                 bind_real(s, 10, p->decode_seconds) && sqlite3_bind_int64(s, 11, p->measured_ms) == SQLITE_OK;
    return step(db, PUT_PROFILE, bound, e);
}

bool task_database_put_setting(task_database *db, const char *key, const char *value, error *e) {
    if (value == NULL) return step(db, DELETE_SETTING, bind_text(db->statements[DELETE_SETTING], 1, key), e);
    sqlite3_stmt *s = db->statements[PUT_SETTING];
    return step(db, PUT_SETTING, bind_text(s, 1, key) && bind_text(s, 2, value), e);
}

bool task_database_put_webhook(task_database *db, const stored_webhook *w, error *e) {
    sqlite3_stmt *s = db->statements[PUT_WEBHOOK];
    bool bound = bind_text(s, 1, w->id) && bind_text(s, 2, w->task) && bind_text(s, 3, w->url) && bind_text(s, 4, w->body) &&
                 sqlite3_bind_int(s, 5, w->attempts) == SQLITE_OK && sqlite3_bind_int64(s, 6, w->due_ms) == SQLITE_OK;
    return step(db, PUT_WEBHOOK, bound, e);
}

bool task_database_delete_webhook(task_database *db, const char *id, error *e) {
    return step(db, DELETE_WEBHOOK, bind_text(db->statements[DELETE_WEBHOOK], 1, id), e);
}

bool task_database_put_gone_webhook(task_database *db, const char *url, error *e) {
    sqlite3_stmt *s = db->statements[PUT_GONE], *trim = db->statements[TRIM_GONE];
    return step(db, PUT_GONE, bind_text(s, 1, url) && sqlite3_bind_int64(s, 2, clock_unix_ms()) == SQLITE_OK, e) &&
           step(db, TRIM_GONE, sqlite3_bind_int(trim, 1, STORED_GONE) == SQLITE_OK, e);
}
