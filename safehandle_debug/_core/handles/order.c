/* From the arguments of SafeProcessHandle.spawn() to a plan without Python. */
#define _GNU_SOURCE
#include "order.h"

#include <string.h>
#include <unistd.h>

extern char **environ;

/* The bytes of a path-like, kept alive by the order. */
static char *
keep_text(shd_order *what, PyObject *text)
{
    PyObject *encoded;
    if (!PyUnicode_FSConverter(text, &encoded)) {
        return NULL;
    }
    int failed = PyList_Append(what->keep, encoded) < 0;
    Py_DECREF(encoded);
    return failed ? NULL : PyBytes_AS_STRING(encoded);
}

static char *
keep_joined(shd_order *what, PyObject *left, const char *between,
            PyObject *right)
{
    PyObject *head = NULL, *tail = NULL, *whole = NULL;
    char *text = NULL;
    if (PyUnicode_FSConverter(left, &head)
        && PyUnicode_FSConverter(right, &tail)) {
        whole = PyBytes_FromFormat(
            "%s%s%s", PyBytes_AS_STRING(head),
            PyBytes_GET_SIZE(head) || *between == '=' ? between : "",
            PyBytes_AS_STRING(tail));
    }
    if (whole != NULL && PyList_Append(what->keep, whole) == 0) {
        text = PyBytes_AS_STRING(whole);
    }
    Py_XDECREF(head);
    Py_XDECREF(tail);
    Py_XDECREF(whole);
    return text;
}

static int
order_argv(shd_order *what, PyObject *args)
{
    if (PyUnicode_Check(args) || PyBytes_Check(args)) {
        PyErr_SetString(PyExc_TypeError,
                        "args must be a sequence of arguments, not one "
                        "string: no shell is asked");
        return -1;
    }
    PyObject *list = PySequence_List(args);
    if (list == NULL) {
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(list);
    what->argv = PyMem_New(char *, count + 1);
    int failed = 0;
    if (what->argv == NULL) {
        PyErr_NoMemory();
        failed = -1;
    }
    else if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "args must name a program");
        failed = -1;
    }
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        what->argv[i] = keep_text(what, PyList_GET_ITEM(list, i));
        failed = what->argv[i] == NULL ? -1 : 0;
    }
    if (!failed) {
        what->argv[count] = NULL;
    }
    Py_DECREF(list);
    return failed;
}

static int
order_env(shd_order *what, PyObject *env)
{
    if (env == Py_None) {
        return 0;
    }
    PyObject *items = PyMapping_Items(env);
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(items);
    what->envp = PyMem_New(char *, count + 1);
    int failed = what->envp == NULL;
    if (failed) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        PyObject *name, *value;
        failed =
            !PyArg_ParseTuple(PyList_GET_ITEM(items, i), "OO", &name, &value);
        char *text = failed ? NULL : keep_text(what, name);
        if (text != NULL && (*text == 0 || strchr(text, '=') != NULL)) {
            PyErr_Format(PyExc_ValueError,
                         "%R cannot be the name of a variable", name);
            text = NULL;
        }
        what->envp[i] =
            text == NULL ? NULL : keep_joined(what, name, "=", value);
        failed = what->envp[i] == NULL;
    }
    if (!failed) {
        what->envp[count] = NULL;
        what->plan.envp = what->envp;
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

/* The executable itself, or each place in PATH where it may be. */
static int
order_candidates(shd_order *what, PyObject *executable, PyObject *env)
{
    char *name = keep_text(what, executable);
    PyObject *folders = NULL;
    Py_ssize_t count = 1;
    if (name == NULL) {
        return -1;
    }
    if (strchr(name, '/') == NULL) {
        PyObject *os = PyImport_ImportModule("os");
        folders = os == NULL
                      ? NULL
                      : PyObject_CallMethod(os, "get_exec_path", "O", env);
        Py_XDECREF(os);
        if (folders == NULL) {
            return -1;
        }
        Py_SETREF(folders, PySequence_List(folders));
        if (folders == NULL) {
            return -1;
        }
        count = PyList_GET_SIZE(folders);
    }
    what->candidates = PyMem_New(char *, count + 1);
    int failed = what->candidates == NULL;
    if (failed) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        what->candidates[i] =
            folders == NULL ? name
                            : keep_joined(what, PyList_GET_ITEM(folders, i),
                                          "/", executable);
        failed = what->candidates[i] == NULL;
    }
    if (!failed) {
        what->candidates[count] = NULL;
        what->plan.candidates = what->candidates;
    }
    Py_XDECREF(folders);
    return failed ? -1 : 0;
}

static int
order_descriptors(shd_order *what, PyObject *const standard[3],
                  PyObject *pass_fds)
{
    for (int i = 0; i < 3; i++) {
        what->plan.standard[i] = -1;
    }
    for (int i = 0; i < 3; i++) {
        if (standard[i] == Py_None) {
            continue;
        }
        if (shd_fd_take(standard[i], &what->refs[i]) < 0) {
            return -1;
        }
        what->taken[i] = 1;
        what->plan.standard[i] = what->refs[i].fd;
    }
    if (pass_fds == NULL) {
        return 0;
    }
    PyObject *list = PySequence_List(pass_fds);
    if (list == NULL) {
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(list);
    what->passed = PyMem_New(shd_fd_ref, count + 1);
    what->passed_fds = PyMem_New(int, count + 1);
    int failed = what->passed == NULL || what->passed_fds == NULL;
    if (failed) {
        PyErr_NoMemory();
    }
    while (!failed && what->passed_count < count) {
        Py_ssize_t i = what->passed_count;
        failed = shd_fd_take(PyList_GET_ITEM(list, i), &what->passed[i]) < 0;
        if (!failed) {
            what->passed_fds[i] = what->passed[i].fd;
            what->passed_count++;
        }
    }
    what->plan.inherited = what->passed_fds;
    what->plan.inherited_count = (size_t)what->passed_count;
    Py_DECREF(list);
    return failed ? -1 : 0;
}

int
shd_order_make(shd_order *what, PyObject *arguments, PyObject *kwargs)
{
    static char *names[] = {
        "args",       "env",    "cwd",      "stdin",
        "stdout",     "stderr", "pass_fds", "start_new_session",
        "executable", NULL};
    PyObject *args, *env = Py_None, *cwd = Py_None, *executable = Py_None;
    PyObject *standard[3] = {Py_None, Py_None, Py_None};
    PyObject *pass_fds = NULL;
    memset(what, 0, sizeof(*what));
    if (!PyArg_ParseTupleAndKeywords(arguments, kwargs, "O|$OOOOOOpO:spawn",
                                     names, &args, &env, &cwd, &standard[0],
                                     &standard[1], &standard[2], &pass_fds,
                                     &what->plan.new_session, &executable)) {
        return -1;
    }
    what->cwd = Py_NewRef(cwd);
    what->keep = PyList_New(0);
    if (what->keep == NULL || order_argv(what, args) < 0) {
        return -1;
    }
    what->plan.argv = what->argv;
    PyObject *program = executable;
    if (program == Py_None) {
        program = PyList_GET_ITEM(what->keep, 0);
    }
    what->name = PyBytes_Check(program)
                     ? PyUnicode_DecodeFSDefault(PyBytes_AS_STRING(program))
                     : Py_NewRef(program);
    if (what->name == NULL) {
        return -1;
    }
    if (cwd != Py_None) {
        what->plan.cwd = keep_text(what, cwd);
        if (what->plan.cwd == NULL) {
            return -1;
        }
    }
    if (order_candidates(what, program, env) < 0
        || order_descriptors(what, standard, pass_fds) < 0
        || PySys_Audit("subprocess.Popen", "OOOO", what->name, args, cwd, env)
               < 0) {
        return -1;
    }
    return order_env(what, env);
}

int
shd_order_spawn(shd_order *what, int *pidfd)
{
    if (what->envp == NULL) {
        what->plan.envp = environ; /* now: no Python runs until it is read */
    }
    int pid = shd_spawn(&what->plan, pidfd);
    if (pid < 0) {
        PyErr_SetFromErrnoWithFilenameObject(
            PyExc_OSError, what->plan.error_in_cwd ? what->cwd : what->name);
    }
    return pid;
}

int
shd_order_done(shd_order *what, int result)
{
    for (int i = 0; i < 3; i++) {
        if (what->taken[i]) {
            result = shd_fd_drop(&what->refs[i], result);
        }
    }
    for (Py_ssize_t i = 0; i < what->passed_count; i++) {
        result = shd_fd_drop(&what->passed[i], result);
    }
    PyMem_Free(what->passed);
    PyMem_Free(what->passed_fds);
    PyMem_Free(what->argv);
    PyMem_Free(what->envp);
    PyMem_Free(what->candidates);
    Py_XDECREF(what->keep);
    Py_XDECREF(what->name);
    Py_XDECREF(what->cwd);
    return result;
}
