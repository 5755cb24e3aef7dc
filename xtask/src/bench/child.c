/* The child of an init under measurement: as small as a process can be, so that
   what is measured is the init. Times are CLOCK_MONOTONIC in nanoseconds, eight
   bytes each, on standard output.

   child stamp       the time at main(), and the time just before the end
   child signals     the time at each SIGHUP, SIGUSR1 and SIGTERM
   child orphans N   at SIGUSR1 makes N orphans that end at once, then writes a time */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void say(int64_t t) {
    if (write(1, &t, sizeof t) != sizeof t)
        _exit(1);
}

int main(int count, char **arguments) {
    int64_t begun = now();
    if (count < 2)
        return 2;
    if (strcmp(arguments[1], "stamp") == 0) {
        say(begun);
        say(now());
        _exit(0);
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, 0);
    say(begun);
    for (;;) {
        int signal;
        if (sigwait(&set, &signal) != 0)
            return 1;
        if (strcmp(arguments[1], "orphans") == 0 && count == 3) {
            /* One child that leaves them all to the init by its end. */
            pid_t middle = fork();
            if (middle == 0) {
                for (int left = atoi(arguments[2]); left > 0; left--)
                    if (fork() == 0)
                        _exit(0);
                _exit(0);
            }
            waitpid(middle, 0, 0);
        }
        say(now());
    }
}
