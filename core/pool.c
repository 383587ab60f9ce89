/* pool.c: a loop shared by threads. Knows items, not what they are.
 *
 * Each call is a job on its caller's stack, in a list that idle threads look through. Items are
 * handed out by a counter. A caller leaves when its items are handed out and no thread is still at
 * one of them. */
#include "pool_run.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define POOL_MAX_THREADS 1024

typedef struct job {
    adam_pool_fn *fn;
    void *context;
    size_t n_items;
    atomic_size_t next;
    unsigned helpers; /* threads of the pool at this job; under the pool's lock */
    struct job *after;
} job;

struct adam_pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job came, or the end */
    pthread_cond_t left; /* a helper left a job */
    job *jobs;
    bool stopping;
    unsigned n_threads;
    pthread_t threads[];
};

static void job_work(job *j)
{
    for (;;) {
        size_t item = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (item >= j->n_items) {
            return;
        }
        j->fn(j->context, item);
    }
}

/* The first job with items left, or NULL. */
static job *pool_find_job(adam_pool *pool)
{
    job *j = pool->jobs;
    while (j != NULL && atomic_load_explicit(&j->next, memory_order_relaxed) >= j->n_items) {
        j = j->after;
    }
    return j;
}

static void *pool_thread(void *argument)
{
    adam_pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        job *j = pool_find_job(pool);
        if (j == NULL) {
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        j->helpers++;
        pthread_mutex_unlock(&pool->lock);
        job_work(j);
        pthread_mutex_lock(&pool->lock);
        if (--j->helpers == 0) {
            pthread_cond_broadcast(&pool->left);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

adam_status adam_pool_create(unsigned threads, adam_pool **out)
{
    if (threads < 1 || threads > POOL_MAX_THREADS) {
        return ADAM_INVALID_OPTION;
    }
    adam_pool *pool = calloc(1, sizeof *pool + (threads - 1) * sizeof pool->threads[0]);
    if (pool == NULL) {
        return ADAM_NO_MEMORY;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->left, NULL);
    for (; pool->n_threads < threads - 1; pool->n_threads++) {
        if (pthread_create(&pool->threads[pool->n_threads], NULL, pool_thread, pool) != 0) {
            adam_pool_free(pool);
            return ADAM_NO_MEMORY;
        }
    }
    *out = pool;
    return ADAM_OK;
}

void adam_pool_free(adam_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void pool_unlink_job(adam_pool *pool, const job *gone)
{
    job **link = &pool->jobs;
    while (*link != gone) {
        link = &(*link)->after;
    }
    *link = gone->after;
}

void adam_pool_run(adam_pool *pool, size_t n_items, adam_pool_fn *fn, void *context)
{
    if (pool == NULL || pool->n_threads == 0 || n_items < 2) {
        for (size_t i = 0; i < n_items; i++) {
            fn(context, i);
        }
        return;
    }
    job j = {.fn = fn, .context = context, .n_items = n_items};
    pthread_mutex_lock(&pool->lock);
    j.after = pool->jobs;
    pool->jobs = &j;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);

    job_work(&j);

    pthread_mutex_lock(&pool->lock);
    pool_unlink_job(pool, &j);
    while (j.helpers > 0) {
        pthread_cond_wait(&pool->left, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}
