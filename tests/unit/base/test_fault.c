/* test_fault.c - fault points of builds that have them. */
#include "unit.h"
#include "base/fault.h"
#include <signal.h>
#include <sys/wait.h>
#include <fcntl.h>

#define POINT "wal_append_before_sync"

#ifdef ELANUS_FAULTS

static void test_point_when_not_armed_then_zero(void **state)
{
    struct status st = STATUS_INIT;
    fault_arm(NULL);
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
}

static void test_point_when_armed_then_acts_once_at_the_nth(void **state)
{
    struct status st = STATUS_INIT;
    fault_arm(POINT ":error:3");
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
    assert_int_equal(FAULT_POINT("gc_before_delete", &st), 0);
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
    assert_int_equal(FAULT_POINT(POINT, &st), ST_IO);
    assert_non_null(strstr(st.msg, POINT));
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
    fault_arm(POINT ":nospace");
    assert_int_equal(FAULT_POINT(POINT, &st), ST_NO_SPACE);
    fault_arm(POINT ":error");
    fault_arm(NULL);
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
}

static int child_status(const char *spec)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct status st = STATUS_INIT;
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        fault_arm(spec);
        (void)FAULT_POINT(POINT, &st);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_point_when_kill_then_the_process_dies(void **state)
{
    int status = child_status(POINT ":kill");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_arm_when_spec_is_wrong_then_the_process_ends(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "no_such_point:kill",
                                      POINT,
                                      POINT ":",
                                      POINT ":boom",
                                      POINT ":kill:0",
                                      POINT ":kill:x",
                                      POINT ":error:1x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int status = child_status(bad[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_point_when_not_armed_then_zero),
        cmocka_unit_test(test_point_when_armed_then_acts_once_at_the_nth),
        cmocka_unit_test(test_point_when_kill_then_the_process_dies),
        cmocka_unit_test(test_arm_when_spec_is_wrong_then_the_process_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_point_when_not_compiled_in_then_constant_zero(void **state)
{
    struct status st = STATUS_INIT;
    assert_int_equal(FAULT_POINT(POINT, &st), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_point_when_not_compiled_in_then_constant_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
