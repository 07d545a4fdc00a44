/* The Python type Question: answers of Python's that are kept. */
#include "index.h"

typedef struct {
    PyObject_HEAD
    PyObject *callable;
    idx_asked asked;
} question;

static PyObject *
question_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"callable", NULL};
    PyObject *callable;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Question", names,
                                     &callable)) {
        return NULL;
    }
    question *self = (question *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->callable = Py_NewRef(callable);
    }
    return (PyObject *)self;
}

static int
question_traverse(question *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->callable);
    return 0;
}

static int
question_clear(question *self)
{
    Py_CLEAR(self->callable);
    return 0;
}

static void
question_dealloc(question *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->callable);
    idx_asked_clear(&self->asked);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyType_Slot question_slots[] = {
    {Py_tp_doc,
     "Question(callable)\n--\n\n"
     "What callable(id, id) answers, a number or a truth, asked once."},
    {Py_tp_new, question_new},
    {Py_tp_traverse, question_traverse},
    {Py_tp_clear, question_clear},
    {Py_tp_dealloc, question_dealloc},
    {0, NULL},
};

PyType_Spec idx_question_spec = {
    .name = "safehandle_debug.ledger._index.Question",
    .basicsize = sizeof(question),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = question_slots,
};

int64_t
idx_question_told(PyObject *asked, uint32_t first, uint32_t second)
{
    question *self = (question *)asked;
    return idx_asked_answer(&self->asked, self->callable, first, second);
}

int64_t
idx_question_answer(PyObject *asked, const idx_handle *handle, int first,
                    int second)
{
    return idx_question_told(asked, idx_handle_column(handle, first),
                             idx_handle_column(handle, second));
}
